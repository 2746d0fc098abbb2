package srnbd

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/nbd"
	"reflinksr/internal/sectors"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

func TestMain(m *testing.M) {
	status, again := scratch.Isolate()
	if !again {
		status = m.Run()
	}
	os.Exit(status)
}

// A mirror reads as it was written, at whatever place it is read; it refuses what is no whole sector, and keeps what is trimmed.
func TestMirror(t *testing.T) {
	tests.Root(t, "mounting a filesystem")
	fs, err := scratch.Make("btrfs", 256<<20, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fs.Remove() })
	const size = 1 << 20
	var files [2]*os.File
	for i, name := range []string{"whole", "apart"} {
		if files[i], err = os.Create(filepath.Join(fs.Dir, name)); err != nil {
			t.Fatal(err)
		}
		defer files[i].Close()
	}
	if err := errors.Join(files[0].Truncate(size), sectors.Prepare(files[1], size, 7)); err != nil {
		t.Fatal(err)
	}
	if ino, err := sectors.Of(files[1]); ino != 7 || err != nil {
		t.Errorf("of the file with inode number %d, %v", ino, err)
	}
	if ino, err := sectors.Of(files[0]); ino != 0 || err != nil {
		t.Errorf("a file that is not prepared is of %d, %v", ino, err)
	}
	server := nbd.Server{Backend: newMirror(files[0], files[1], size)}
	here, there := net.Pipe()
	served := make(chan error)
	go func() { served <- server.ServeConn(context.Background(), there) }()
	c, err := nbd.Connect(context.Background(), here, "any", nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, model := rand.New(rand.NewPCG(1, 2)), make([]byte, size)
	for i := range tests.Share(200, 2000) {
		at, length := r.IntN(size/512)*512, 512*(1+r.IntN(40))
		length = min(length, size-at)
		switch i % 3 {
		case 0:
			p := bytes.Repeat([]byte{byte(i)}, length)
			copy(model[at:], p)
			if _, err := c.WriteAt(p, int64(at)); err != nil {
				t.Fatal(err)
			}
		case 1:
			clear(model[at : at+length])
			if err := c.Zero(int64(at), int64(length), nbd.ZeroHow{}); err != nil {
				t.Fatal(err)
			}
		case 2:
			if err := c.Trim(int64(at), int64(length)); err != nil {
				t.Fatal(err)
			}
		}
		from := r.IntN(size)
		p := make([]byte, min(1+r.IntN(9000), size-from))
		if _, err := c.ReadAt(p, int64(from)); err != nil || !bytes.Equal(p, model[from:from+len(p)]) {
			t.Fatalf("%d bytes at %d are not what was written (%v)", len(p), from, err)
		}
	}
	if _, err := c.WriteAt([]byte("half a sector"), 100); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a piece of a sector was written: %v", err)
	}
	if err := c.Flush(); err != nil {
		t.Error(err)
	}
	c.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
