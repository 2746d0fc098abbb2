package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

func TestMain(m *testing.M) {
	if status, again := scratch.Isolate(); again {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// The packages are the same bytes when they are built again from other paths, by somebody with another umask, in another time
// zone; and a host with either package manager gets all of them, keeps it through an upgrade, and is rid of it.
func TestPackages(t *testing.T) {
	tests.Root(t, "installing packages")
	tests.Long(t)
	for _, name := range []string{"rpm", "dnf", "createrepo_c", "dpkg", "dpkg-deb", "systemctl"} {
		if _, err := exec.LookPath(name); err != nil {
			tests.Skip(t, name, " is not installed")
		}
	}
	if len(tests.Due([]string{"packages"}, 3)) == 0 {
		t.Log("packages are built with one commit of three: that takes as long as everything that is in them")
		return
	}
	sources, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	older, newer := t.TempDir(), t.TempDir()
	pack(t, sources, older, "-version", "1.0.0")
	pack(t, sources, newer, "-version", "1.0.1", "-release", "2")
	t.Run("reproducible", func(t *testing.T) { reproducible(t, sources, older) })
	t.Run("onereflink by rpm", func(t *testing.T) {
		frontEnd(t, rpmHost(t), one(t, older, "onereflink-*.rpm"), one(t, newer, "onereflink-*.rpm"))
	})
	t.Run("onereflink by deb", func(t *testing.T) {
		frontEnd(t, debHost(t), one(t, older, "onereflink_*.deb"), one(t, newer, "onereflink_*.deb"))
	})
	t.Run("el7", func(t *testing.T) { readableByEL7(t, one(t, older, "reflinksr-*.rpm")) })
	t.Run("rpm", func(t *testing.T) { withRPM(t, one(t, older, "reflinksr-*.rpm"), one(t, newer, "reflinksr-*.rpm")) })
	t.Run("rpm beside another plugin", func(t *testing.T) { besideAnother(t, one(t, older, "reflinksr-*.rpm")) })
	t.Run("rpm with a full filesystem", func(t *testing.T) {
		full(t, rpmHost(t), one(t, older, "reflinksr-*.rpm"), one(t, newer, "reflinksr-*.rpm"))
	})
	t.Run("deb", func(t *testing.T) { withDeb(t, one(t, older, "reflinksr_*.deb"), one(t, newer, "reflinksr_*.deb")) })
	t.Run("deb with a full filesystem", func(t *testing.T) {
		full(t, debHost(t), one(t, older, "reflinksr_*.deb"), one(t, newer, "reflinksr_*.deb"))
	})
}

// pack builds both packages.
func pack(t *testing.T, sources, out string, args ...string) {
	t.Helper()
	c := exec.Command("go", append([]string{"run", "./cmd/packaging", "-out", out}, args...)...)
	c.Dir, c.Env = sources, os.Environ()
	if git := exec.Command("git", "-C", sources, "log", "-1"); git.Run() != nil {
		c.Env = append(c.Env, "SOURCE_DATE_EPOCH=1767225600") // sources without their history
	}
	output(t, c)
}

func reproducible(t *testing.T, sources, first string) {
	elsewhere, again := filepath.Join(t.TempDir(), "elsewhere"), t.TempDir()
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(sources, elsewhere, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(elsewhere, unix.MNT_DETACH)
	defer unix.Umask(unix.Umask(0o077))
	t.Setenv("TZ", "Asia/Kathmandu")
	t.Setenv("LANG", "tr_TR.UTF-8")
	t.Setenv("TMPDIR", t.TempDir())
	pack(t, elsewhere, again, "-version", "1.0.0")
	for _, kind := range []string{"reflinksr-*.rpm", "reflinksr_*.deb", "onereflink-*.rpm", "onereflink_*.deb"} {
		a, b := read(t, one(t, first, kind)), read(t, one(t, again, kind))
		if !bytes.Equal(a, b) {
			t.Errorf("%s: %d and %d bytes, which differ", kind, len(a), len(b))
		}
	}
}

// readableByEL7 looks for what rpm 4.11 does not know.
func readableByEL7(t *testing.T, rpm string) {
	query := func(args ...string) string {
		return strings.TrimSpace(output(t, exec.Command("rpm", append([]string{"-qp"}, append(args, rpm)...)...)))
	}
	if got := query("--qf", "%{PAYLOADFORMAT} %{PAYLOADCOMPRESSOR} %{FILEDIGESTALGO}"); got != "cpio gzip 8" {
		t.Errorf("the payload is %s", got)
	}
	if got := query("--requires"); got != "/bin/sh" {
		t.Errorf("it requires %s", got)
	}
	if got := query("--recommends", "--suggests", "--supplements", "--enhances"); got != "" {
		t.Errorf("weak dependencies: %s", got)
	}
	output(t, exec.Command("rpm", "-K", rpm))
}

func one(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s in %s: %v, %v", pattern, dir, found, err)
	}
	return found[0]
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// output runs what must succeed, and gives all that it says.
func output(t *testing.T, c *exec.Cmd) string {
	t.Helper()
	said, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(c.Args, " "), err, said)
	}
	return string(said)
}
