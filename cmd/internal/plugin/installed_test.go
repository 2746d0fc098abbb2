package plugin

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is installed is found, and what is not whole told by what it lacks.
func TestInstalled(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	install := func() {
		t.Helper()
		if err := Install([]string{"-root", root}, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		says string
		harm func() error
	}{
		{"loop+blkback is not there", func() error { return os.RemoveAll(filepath.Join(root, directories[0].path)) }},
		{"lacks Volume.snapshot", func() error { return os.Remove(filepath.Join(root, directories[1].path, "Volume.snapshot")) }},
		{"it is no program", func() error { return os.Chmod(filepath.Join(root, directories[1].path, binary), 0o644) }},
	} {
		install()
		if programs, err := Installed(root); err != nil || len(programs) != len(directories) {
			t.Fatalf("just installed: %q, %v", programs, err)
		}
		if err := c.harm(); err != nil {
			t.Fatal(err)
		}
		if programs, err := Installed(root); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q, %v: want %q", programs, err, c.says)
		}
	}
}
