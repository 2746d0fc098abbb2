// Package debian gets programs, kernels and modules out of Debian's packages, into a
// directory of its own: nothing is installed, and nobody has to be root.
package debian

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is a directory in which packages are unpacked.
type Root struct {
	Dir   string
	files map[string]string // shared libraries: name to path
}

// Fetch gets the packages and all that they depend on, as the apt of this machine
// finds them, and unpacks them below cache. What is there already is used. tell is told
// what takes time.
func Fetch(ctx context.Context, cache string, packages []string, tell func(format string, args ...any)) (*Root, error) {
	for _, tool := range []string{"apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("the lab is made of Debian's packages, and this machine has no %s: run it on Debian or Ubuntu", tool)
		}
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockDir(cache)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	sum := sha256.Sum256([]byte(strings.Join(packages, " ")))
	dir := filepath.Join(cache, fmt.Sprintf("root-%x", sum[:6]))
	if _, err := os.Stat(dir); err == nil {
		return open(dir)
	}
	a := apt{dir: filepath.Join(cache, "apt")}
	if err := a.prepare(); err != nil {
		return nil, err
	}
	tell("asking for the lists of packages")
	if err := a.run(ctx, "update"); err != nil {
		return nil, err
	}
	tell("getting the packages")
	if err := a.run(ctx, append([]string{"install", "--download-only", "--yes", "--"}, packages...)...); err != nil {
		return nil, err
	}
	debs, err := filepath.Glob(filepath.Join(a.dir, "archives", "*.deb"))
	if err != nil || len(debs) == 0 {
		return nil, errors.Join(err, errors.New("apt-get succeeded and left no packages"))
	}
	tell("unpacking %d packages", len(debs))
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return nil, err
	}
	for _, deb := range debs {
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "--extract", deb, part).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("unpacking %s: %w: %s", filepath.Base(deb), err, strings.TrimSpace(string(out)))
		}
	}
	if err := os.RemoveAll(filepath.Join(a.dir, "archives")); err != nil {
		return nil, err
	}
	if err := os.Rename(part, dir); err != nil {
		return nil, err
	}
	return open(dir)
}

// lockDir has two labs that find an empty cache fill it one after the other.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: dir, Err: err}
	}
	return f, nil
}

// apt is an apt that believes that nothing is installed: it gets every package that the
// wanted ones need, so that they run on a machine that has none of them.
type apt struct {
	dir    string
	source string // the only archive that it asks, unverified; "": those that the machine's apt asks
}

func (a apt) prepare() error {
	for _, dir := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, dir), 0o700); err != nil {
			return err
		}
	}
	config := fmt.Sprintf(`Dir::State %q;
Dir::State::lists %q;
Dir::State::status %q;
Dir::Cache %q;
Dir::Cache::archives %q;
Dir::Log %q;
APT::Install-Recommends "false";
APT::Sandbox::User "";
Debug::NoLocking "true";
`, a.dir, filepath.Join(a.dir, "lists"), filepath.Join(a.dir, "status"), a.dir, filepath.Join(a.dir, "archives"), a.dir)
	if a.source != "" {
		// Nothing of it is believed but what is compared afterwards.
		file := filepath.Join(a.dir, "sources.list")
		line := strings.Replace(a.source, "deb ", "deb [trusted=yes] ", 1) + "\n"
		if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
			return err
		}
		config += fmt.Sprintf("Dir::Etc::sourcelist %q;\nDir::Etc::sourceparts \"/dev/null\";\n", file)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(a.dir, "status"), nil, 0o600),
		os.WriteFile(filepath.Join(a.dir, "apt.conf"), []byte(config), 0o600))
}

func (a apt) run(ctx context.Context, args ...string) error {
	c := exec.CommandContext(ctx, "apt-get", append([]string{"-q"}, args...)...)
	c.Dir = a.dir
	c.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, lastLines(string(out), 10))
	}
	return nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// open finds the libraries of an unpacked root.
func open(dir string) (*Root, error) {
	r := &Root{Dir: dir, files: map[string]string{}}
	for _, lib := range []string{"lib64", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "usr/lib64"} {
		entries, err := os.ReadDir(filepath.Join(dir, lib))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if _, have := r.files[e.Name()]; !have && strings.Contains(e.Name(), ".so") {
				r.files[e.Name()] = filepath.Join(dir, lib, e.Name())
			}
		}
	}
	if r.files[loader] == "" {
		return nil, fmt.Errorf("%s has no %s: remove it, it is made anew", dir, loader)
	}
	return r, nil
}

// One finds the single file that matches a pattern below the root.
func (r *Root) One(pattern string) (string, error) {
	found, err := filepath.Glob(filepath.Join(r.Dir, pattern))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("the packages have %d files %s, not one: %w", len(found), pattern, errors.Join(err, os.ErrNotExist))
	}
	return found[0], nil
}

// Program finds an executable by its name.
func (r *Root) Program(name string) (string, error) {
	for _, dir := range []string{"usr/lib/xen-*/bin", "usr/sbin", "sbin", "usr/bin", "bin"} {
		found, _ := filepath.Glob(filepath.Join(r.Dir, dir, name))
		for _, path := range found {
			if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("no package has a program %s", name)
}

// sorted are the keys of a set.
func sorted(set map[string]bool) []string {
	var out []string
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
