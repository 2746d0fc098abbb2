package plugin

import (
	"errors"
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

// A directory with another plugin's programs in it is not taken for ours, also if ours are there as well.
func TestAnothersPrograms(t *testing.T) {
	root := t.TempDir()
	install := func() error { return Install([]string{"-root", root}, io.Discard) }
	if err := install(); err != nil {
		t.Fatal(err)
	}
	attach := filepath.Join(root, directories[0].path, "Datapath.attach")
	if err := os.Remove(attach); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(attach, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := install(); err == nil || !strings.Contains(err.Error(), "has files of one") {
		t.Errorf("installed over it: %v", err)
	}
	if err := Uninstall([]string{"-root", root, "-force"}, io.Discard); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(attach); err != nil || string(text) != "#!/bin/sh\n" {
		t.Errorf("it was touched: %q, %v", text, err)
	}
	if err := os.RemoveAll(filepath.Join(root, directories[0].path)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(attach), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(attach, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Installed(root); !errors.Is(err, ErrAnother) {
		t.Errorf("a directory without our program: %v", err)
	}
}
