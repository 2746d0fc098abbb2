package reflink

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A clone is the file, or there is none: where blocks cannot be shared nothing is copied, and the error names both files.
func TestCloneOrNothing(t *testing.T) {
	dir := t.TempDir()
	src, err := os.Create(filepath.Join(dir, "src"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(filepath.Join(dir, "dst"))
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	attrs, err := AttributesOf(src)
	if err == nil {
		err = attrs.Apply(dst)
	}
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("x"), 1<<16)
	if _, err := src.Write(data); err != nil {
		t.Fatal(err)
	}
	err = CloneFile(dst, src)
	got, e := os.ReadFile(dst.Name())
	if e != nil {
		t.Fatal(e)
	}
	var link *os.LinkError
	switch {
	case err == nil && !bytes.Equal(got, data):
		t.Errorf("the clone has %d bytes that are not its origin's", len(got))
	case err != nil && (len(got) > 0 || !errors.As(err, &link) || link.Old != src.Name() || link.New != dst.Name()):
		t.Errorf("%v, and %d bytes", err, len(got))
	}
	if fixed, err := Immutable(src); fixed || err != nil {
		t.Errorf("immutable: %v, %v", fixed, err)
	}
	if bare, err := Unchecked(src); err != nil || attrs.NoCOW && !bare {
		t.Errorf("unchecked: %v, %v", bare, err)
	}
	if got := Unshared(dst, unix.EIO); got != unix.EIO {
		t.Errorf("nothing is known of this: %v", got)
	}
	if got := Unshared(dst, unix.ETXTBSY); !errors.Is(got, unix.ETXTBSY) || got == unix.ETXTBSY {
		t.Error(got)
	}
}
