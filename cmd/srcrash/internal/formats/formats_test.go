package formats

import (
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"reflinksr/cmd/internal/version"
	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/cmd/srcrash/internal/trace"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

// update makes the archives of this release anew, with the plugin as it is now:
//
//	go test ./cmd/srcrash/internal/formats -update-formats
//
// It is for the last commit before a release, and for no other: what a release wrote is
// what later ones must read, whatever they write themselves.
var update = flag.Bool("update-formats", false, "write testdata/formats/<this release> anew, with the plugin as it is now")

func TestMain(m *testing.M) {
	trace.Hook()
	os.Exit(rig.RunTests(m))
}

func newUUID() string { return uuid.NewString() }

// bits are the numbers of those that are set in a bitmap.
func bits(bitmap any) []int {
	set := []int{}
	text, _ := bitmap.(string)
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	for i := range len(data) * 8 {
		if data[i/8]&(0x80>>(i%8)) != 0 {
			set = append(set, i)
		}
	}
	return set
}

const archives = "../../../../testdata/formats"

// TestFormats puts the SRs of every release on btrfs and on XFS, attaches and uses them.
func TestFormats(t *testing.T) {
	tests.Root(t, "mounting filesystems and attaching loop devices")
	p, srctl := host(t)
	if *update {
		makeArchives(t, p)
		if err := rig.PrivateHost(); err != nil { // which knows nothing of those
			t.Fatal(err)
		}
	}
	names, err := filepath.Glob(archives + "/*/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("%s has no archives, %v", archives, err)
	}
	for _, kind := range []string{"btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			dir := filesystem(t, kind)
			for _, name := range names {
				rest, _ := filepath.Rel(archives, name)
				t.Run(strings.TrimSuffix(rest, ".txtar"), func(t *testing.T) {
					a, err := readArchive(name)
					if err != nil {
						t.Fatal(err)
					}
					at := place{plugin: p, srctl: srctl, path: filepath.Join(dir, filepath.Base(rest)+" sr"), kind: kind}
					at.live(a)
					for _, wrong := range at.wrong {
						t.Error(wrong)
					}
				})
			}
		})
	}
}

// host makes this process a host of its own, with the plugin on it, and srctl. Both are
// built as they are shipped: of a race-detecting build the thousands of calls would take
// minutes.
func host(t *testing.T) (p rig.Plugin, srctl string) {
	t.Helper()
	if err := rig.PrivateHost(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", dir+"/", "reflinksr/cmd/reflinksr", "reflinksr/cmd/srctl").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p, err := rig.InstallFrom(filepath.Join(dir, "reflinksr"), filepath.Join(dir, "plugins"))
	if err != nil {
		t.Fatal(err)
	}
	return p, filepath.Join(dir, "srctl")
}

func filesystem(t *testing.T, kind string) string {
	t.Helper()
	if err := scratch.Available(kind); err != nil {
		tests.Skip(t, err)
	}
	fs, err := scratch.Make(kind, 1<<30, filepath.Join(t.TempDir(), "mnt"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fs.Remove() })
	return fs.Dir
}

// makeArchives makes those of this release.
func makeArchives(t *testing.T, p rig.Plugin) {
	end, err := pretend(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	out := filepath.Join(archives, version.Version)
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filesystem(t, "btrfs")
	for _, kind := range []struct {
		name, about string
		make        func(*maker)
	}{
		{"everything", "Every kind of volume, and of what an interrupted call leaves.", (*maker).everything},
		{"options", "An SR with 4096-byte sectors and checksums.", (*maker).options},
		{"destroyed", "An SR whose destruction was interrupted.", (*maker).destroyed},
	} {
		m := &maker{plugin: p, path: filepath.Join(dir, kind.name)}
		m.fail(os.Mkdir(m.path, 0o700))
		kind.make(m)
		a, err := m.archive()
		m.release()
		if err == nil {
			a.comment = fmt.Appendf(nil, "%s As release %s wrote it on btrfs.\nMade by: go test ./cmd/srcrash/internal/formats -update-formats. Never changed afterwards.\nWhat the sections are: archive_test.go there.\n\n", kind.about, version.Version)
			err = a.write(filepath.Join(out, kind.name+".txtar"))
		}
		if err != nil || m.err != nil {
			t.Fatalf("%s: %v, %v", kind.name, err, m.err)
		}
	}
}
