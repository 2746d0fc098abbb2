package ramdisk

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/cavaliergopher/cpio"
)

func TestRamdisk(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!"), 0o755); err != nil {
		t.Fatal(err)
	}
	w, err := Create(filepath.Join(dir, "disk"))
	if err != nil {
		t.Fatal(err)
	}
	w.File("usr/bin/program", program)
	w.Bytes("etc/text", 0o644, []byte("words"))
	w.Bytes("etc/text", 0o644, []byte("once more")) // what is there stays
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	type entry struct{ name, mode, data string }
	var got []entry
	for r := cpio.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, entry{h.Name, h.FileInfo().Mode().String(), string(data)})
	}
	want := []entry{
		{"usr", "drwxr-xr-x", ""}, {"usr/bin", "drwxr-xr-x", ""}, {"usr/bin/program", "-rwxr-xr-x", "#!"},
		{"etc", "drwxr-xr-x", ""}, {"etc/text", "-rw-r--r--", "words"},
	}
	if len(got) != len(want) {
		t.Fatalf("the ramdisk has %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("entry %d is %v, want %v", i, got[i], want[i])
		}
	}
}

func TestErrorsAreToldAtTheEnd(t *testing.T) {
	w, err := Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	w.File("program", "/nonexistent")
	w.Bytes("text", 0o644, nil)
	if err := w.Close(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
}
