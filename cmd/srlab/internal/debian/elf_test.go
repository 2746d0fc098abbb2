package debian

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reflinksr/scripts/tests"
)

// image is a bzImage of boot protocol 2.08 with that payload behind two sectors of setup.
func image(payload string) []byte {
	b := make([]byte, 3*512)
	b[0x1f1] = 2
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], 0x208)
	binary.LittleEndian.PutUint32(b[0x248:], 16)
	binary.LittleEndian.PutUint32(b[0x24c:], uint32(len(payload)))
	return append(append(b, make([]byte, 16)...), payload...)
}

func TestPayload(t *testing.T) {
	xz := "\xfd7zXZ\x00 and more"
	got, err := payload(image(xz))
	if err != nil || string(got) != xz {
		t.Errorf("payload is %q, %v", got, err)
	}
	short := image(xz)
	for name, bad := range map[string][]byte{
		"no bzImage":        []byte("MZ"),
		"not within":        short[:len(short)-1],
		"not compressed by": image("\x1f\x8b and more"),
	} {
		if _, err := payload(bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func FuzzPayload(f *testing.F) {
	f.Add(image("\xfd7zXZ\x00"))
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := payload(data); err == nil && len(p) == 0 {
			t.Error("an empty payload")
		}
	})
}

func TestLibrariesAreFound(t *testing.T) {
	// A root of this machine's own program and libraries.
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		tests.Skip(t, err)
	}
	r, err := open("/")
	if err != nil {
		tests.Skip(t, "this machine's libraries are elsewhere: ", err)
	}
	libs, err := r.Libraries(shell)
	if err != nil {
		t.Fatal(err)
	}
	has := func(part string) bool {
		return slices.ContainsFunc(libs, func(l string) bool { return strings.Contains(l, part) })
	}
	if !has("libc.so") || !has(loader) {
		t.Errorf("%s needs %v, without a C library or without the loader", shell, libs)
	}
	if _, err := r.Libraries(os.Args[0] + ".none"); err == nil {
		t.Error("a program that is not there needs nothing")
	}
	delete(r.files, "libc.so.6")
	if _, err := r.Libraries(shell); err == nil || !strings.Contains(err.Error(), "libc.so.6") {
		t.Errorf("a missing library is not told: %v", err)
	}
}
