package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
)

// over is a qcow2 image above a raw file with that name.
func over(t testing.TB, name string) []byte {
	b := tinyQcow2(t)
	binary.BigEndian.PutUint32(b[104:], 0xe2792aca)
	binary.BigEndian.PutUint32(b[108:], 3)
	copy(b[112:], "raw")
	binary.BigEndian.PutUint64(b[8:], 200)
	binary.BigEndian.PutUint32(b[16:], uint32(len(name)))
	copy(b[200:], name)
	return b
}

// What an image names is read if it is in its directory or below it, by whatever name it is called there; anything else only where
// that is asked for. A link may stay within, but where the kernel cannot tell.
func TestNamed(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "images")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(top, "secret")
	for path, text := range map[string]string{secret: "secret", filepath.Join(dir, "base"): "base", filepath.Join(dir, "sub", "deep"): "deep"} {
		if err := os.WriteFile(path, bytes.Repeat([]byte(text), 100), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"out": secret, "up": "../secret", "way": "..", "in": "sub/deep", "sub/back": "../base", "proc": "/proc/self"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(dir, "image.qcow2")
	const outside = "not in its directory"
	for _, c := range []struct{ name, refused, unlinked, anywhere string }{
		{"base", "", "", ""},
		{"./base", "", "", ""},
		{"sub/deep", "", "", ""},
		{"sub//./deep", "", "", ""},
		{"in", "", outside, ""},
		{"sub/back", "", outside, ""},
		{secret, outside, outside, ""},
		{filepath.Join(dir, "base"), outside, outside, ""},
		{"../secret", outside, outside, ""},
		{"sub/../base", outside, outside, ""},
		{"sub/../../secret", outside, outside, ""},
		{"out", outside, outside, ""},
		{"up", outside, outside, ""},
		{"way/secret", outside, outside, ""},
		{"proc/environ", outside, outside, "the kernel makes it up"},
		{"/proc/self/environ", outside, outside, "the kernel makes it up"},
		{"/proc/kmsg", outside, outside, "the kernel makes it up"},
		{"/sys/kernel/notes", outside, outside, "the kernel makes it up"},
		{"/dev/null", outside, outside, "no regular file"},
		{"sub", "no regular file", "no regular file", "no regular file"},
		{"base/x", "not a directory", "not a directory", "not a directory"},
		{"none", "no such file", "no such file", "no such file"},
	} {
		if err := os.WriteFile(image, over(t, c.name), 0o600); err != nil {
			t.Fatal(err)
		}
		for anywhere, want := range map[bool]string{false: c.refused, true: c.anywhere} {
			m, err := Open(t.Context(), image, Options{Anywhere: anywhere})
			if err == nil {
				if others := m.Others(); len(others) != 1 || filepath.Base(others[0]) != filepath.Base(c.name) {
					t.Errorf("%s: %q", c.name, others)
				}
				m.Close()
			}
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s, anywhere %v: %v, want %q", c.name, anywhere, err, want)
			}
			if want == outside && (!strings.HasPrefix(err.Error(), image+" cannot be read") || !strings.Contains(err.Error(), c.name) || !strings.Contains(err.Error(), "--follow") || !errors.Is(err, fault.ErrInvalid)) {
				t.Errorf("it says only: %v", err)
			}
		}
		// As on Linux before 5.6.
		if c.unlinked != outside && c.unlinked != "" || !local(c.name) {
			continue
		}
		at, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		seen, err := beneathUnlinked(at, c.name)
		if (err == nil) != (c.unlinked == "") || err != nil && err != unix.ELOOP {
			t.Errorf("%s, without openat2: %v", c.name, err)
		}
		if err == nil {
			seen.Close()
		}
		at.Close()
	}
}

// In a chain each file is looked for beside the one that names it, and may not lead out of that one's directory.
func TestNamedByNamed(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	middle := over(t, "base")
	above := over(t, "sub/middle")
	binary.BigEndian.PutUint32(above[108:], 5)
	copy(above[112:], "qcow2")
	base := bytes.Repeat([]byte("base"), 100)
	for path, all := range map[string][]byte{"top.qcow2": above, "sub/middle": middle, "base": base} {
		if err := os.WriteFile(filepath.Join(dir, path), all, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	if _, err := Open(t.Context(), "top.qcow2", Options{}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), filepath.Join(dir, "sub", "base")) {
		t.Errorf("what is beside the first only: %v", err)
	}
	if err := os.Symlink("../base", "sub/base"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), "top.qcow2", Options{}); err == nil || !strings.Contains(err.Error(), "sub/middle cannot be read as an image") || !strings.Contains(err.Error(), "not in its directory") {
		t.Errorf("what leads out of the second's: %v", err)
	}
	if err := errors.Join(os.Remove("sub/base"), os.WriteFile("sub/base", base, 0o600)); err != nil {
		t.Fatal(err)
	}
	m, err := Open(t.Context(), "top.qcow2", Options{})
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
}

// A VHD whose parent is not where it says first, but outside, or beside it by its bare name.
func TestParentOutside(t *testing.T) {
	parent, fill := tinyVHD(64<<10, nil, 1, "", 0), map[int][]byte{3: bytes.Repeat([]byte{9}, 4096)}
	top := t.TempDir()
	dir := filepath.Join(top, "images")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(top, "parent.vhd"), parent, 0o600),
		os.WriteFile(filepath.Join(dir, "image.vhd"), tinyVHD(64<<10, fill, 2, "../parent.vhd", 1, "W2ru", "name"), 0o600)); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image.vhd")
	if _, err := Open(t.Context(), image, Options{}); err == nil || !strings.Contains(err.Error(), "--follow") {
		t.Errorf("outside: %v", err)
	}
	m, err := Open(t.Context(), image, Options{Anywhere: true})
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if err := os.WriteFile(filepath.Join(dir, "parent.vhd"), parent, 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err = Open(t.Context(), image, Options{}); err != nil {
		t.Fatal(err)
	}
	m.Close()
}

// What is no file that can hold an image is refused unopened: to open a tape rewinds it, and a watchdog begins to wait.
func TestUnopened(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := errors.Join(unix.Mkfifo(fifo, 0o600), os.WriteFile(filepath.Join(dir, "image.qcow2"), over(t, "fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, fifo, unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, filepath.Join(dir, "image.qcow2")} {
		if _, err := Open(t.Context(), path, Options{}); err == nil || !strings.Contains(err.Error(), "fifo is no regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if n, err := unix.Read(fd, make([]byte, 4096)); err != unix.EAGAIN {
		t.Errorf("it was opened: %d bytes of events, %v", n, err)
	}
}

// Who is ended opens no other file.
func TestOpenEnds(t *testing.T) {
	dir := t.TempDir()
	text := "# Disk DescriptorFile\n" + strings.Repeat("RW 1 FLAT \"part\" 0\n", 100)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "image.vmdk"), []byte(text), 0o600), os.WriteFile(filepath.Join(dir, "part"), make([]byte, 512), 0o600)); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancelCause(t.Context())
	ended, opened := errors.New("ended"), 0
	_, err := Open(ctx, filepath.Join(dir, "image.vmdk"), Options{MayRead: func(*os.File) error {
		if opened++; opened == 3 {
			end(ended)
		}
		return nil
	}})
	if err != ended || opened != 3 {
		t.Errorf("%d files were opened, %v", opened, err)
	}
}
