package debian

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Pinned are packages of one version each, out of an archive that this machine knows nothing of, not even its keys:
// what they must be is known here, to the byte.
type Pinned struct {
	Source   string            // a line of sources.list(5), without options
	Packages map[string]string // NAME=VERSION: the SHA-256 of its file
}

// FetchPinned gets the packages without what they depend on, and unpacks them below cache. What is there
// already is used. The root has no loader and runs no programs: it is for a kernel and its modules.
func FetchPinned(ctx context.Context, cache string, p Pinned, tell func(format string, args ...any)) (*Root, error) {
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockDir(cache)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	names := slices.Sorted(maps.Keys(p.Packages))
	sum := sha256.Sum256([]byte(p.Source + " " + strings.Join(names, " ")))
	r := &Root{Dir: filepath.Join(cache, fmt.Sprintf("root-%x", sum[:6]))}
	if _, err := os.Stat(r.Dir); err == nil {
		return r, nil
	}
	a := apt{dir: filepath.Join(cache, fmt.Sprintf("apt-%x", sum[:6])), source: p.Source}
	defer os.RemoveAll(a.dir)
	if err := a.prepare(); err != nil {
		return nil, err
	}
	tell("getting %s", strings.Join(names, ", "))
	if err := a.run(ctx, "update"); err != nil {
		return nil, err
	}
	if err := a.run(ctx, append([]string{"download", "--"}, names...)...); err != nil {
		return nil, err
	}
	part := r.Dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := unpackPinned(ctx, a.dir, name, p.Packages[name], part); err != nil {
			return nil, err
		}
	}
	return r, os.Rename(part, r.Dir)
}

// unpackPinned unpacks a package that was downloaded to dir, if it is what it must be.
func unpackPinned(ctx context.Context, dir, name, want, to string) error {
	base, _, _ := strings.Cut(name, "=")
	found, err := filepath.Glob(filepath.Join(dir, base+"_*.deb"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("apt-get left %d files of package %s, not one: %w", len(found), name, errors.Join(err, os.ErrNotExist))
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		return err
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != want {
		return fmt.Errorf("package %s is not the one that is known here: its SHA-256 is %s, not %s", name, got, want)
	}
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "--extract", found[0], to).CombinedOutput(); err != nil {
		return fmt.Errorf("unpacking %s: %w: %s", filepath.Base(found[0]), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// PackedKernel is the kernel as it is packed, which unpacks itself when it boots.
func (r *Root) PackedKernel() (string, error) { return r.One("boot/vmlinuz-*") }
