package nbd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/scripts/tests"
)

// What several connections write, zero, trim and read at once is what a mirror in memory has, byte by byte, and after it in the file;
// where written bytes are to be kept, no written block is ever a hole.
func TestMirror(t *testing.T) {
	for _, kept := range []bool{false, true} {
		for _, plain := range []bool{false, true} {
			t.Run(fmt.Sprintf("kept=%v,plain=%v", kept, plain), func(t *testing.T) { mirror(t, kept, plain) })
		}
	}
}

func mirror(t *testing.T, kept, plain bool) {
	const stripe, stripes, connections, callers = 96 << 10, 128, 3, 4
	f := disk(t, stripe*stripes)
	path := serve(t, &Server{Backend: file(t, f, kept)})
	model := make([]byte, stripe*stripes)
	written := make([]bool, len(model)/512)
	operations := tests.Share(100, 2500)
	var all sync.WaitGroup
	for i := range connections {
		c := dial(t, path, Options{Plain: plain})
		for k := range callers {
			// Each caller has stripes of its own between those of the others.
			all.Go(func() {
				if err := random512(c, rand.New(rand.NewPCG(uint64(i), uint64(k))), operations, kept, model, written, stripe, i*callers+k, connections*callers); err != nil {
					t.Errorf("connection %d, caller %d: %v", i, k, err)
				}
			})
		}
	}
	all.Wait()
	c := dial(t, path, Options{})
	if err := c.Flush(); err != nil {
		t.Error(err)
	}
	got, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, model) {
		t.Error("the file is not what was written")
	}
	for at := int64(0); at < c.Size(); {
		extents, err := c.Extents(at, c.Size()-at)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range extents {
			if e.Zero && len(bytes.TrimLeft(model[at:at+e.Length], "\x00")) > 0 {
				t.Errorf("%d bytes at %d are told to be zeros", e.Length, at)
			}
			for s := at / 512; kept && e.Hole && s < (at+e.Length)/512; s++ {
				if written[s] {
					t.Fatalf("sector %d was written and is a hole", s)
				}
			}
			at += e.Length
		}
	}
}

// random512 does operations on sectors of every so manyth stripe.
func random512(c *Client, r *rand.Rand, operations int, kept bool, model []byte, written []bool, stripe, mine, of int) error {
	for range operations {
		start := (mine + of*r.IntN(len(model)/stripe/of)) * stripe
		from := r.IntN(stripe/512) * 512
		length := (1 + r.IntN((stripe-from)/512)) * 512
		if r.IntN(2) == 0 {
			length = min(length, 512*(1+r.IntN(16)))
		}
		offset := int64(start + from)
		here := model[start+from : start+from+length]
		mark := func() {
			for s := range length / 512 {
				written[(start+from)/512+s] = true
			}
		}
		var err error
		switch what := r.IntN(12); what {
		case 0, 1, 2, 3:
			for i := range here {
				here[i] = byte(r.IntN(255))
			}
			mark()
			if what == 0 {
				_, err = c.WriteDurable(here, offset)
			} else {
				_, err = c.WriteAt(here, offset)
			}
		case 4, 5, 6:
			clear(here)
			mark()
			if err = c.Zero(offset, int64(length), ZeroHow{Allocated: r.IntN(2) == 0, Fast: r.IntN(2) == 0}); errors.Is(err, ErrNotFast) {
				err = c.Zero(offset, int64(length), ZeroHow{})
			}
		case 7:
			if err = c.Trim(offset, int64(length)); !kept {
				clear(here)
			}
		case 8:
			err = c.Flush()
		default:
			got := random(length, 1)
			if _, err = c.ReadAt(got, offset); err == nil && !bytes.Equal(got, here) {
				err = fmt.Errorf("%d bytes at %d are not what was written", length, offset)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A read ends at the disk's end as a file's does; what is beyond is refused before anything is sent.
func TestEnd(t *testing.T) {
	f := disk(t, 10_000)
	c := dial(t, serve(t, &Server{Backend: file(t, f, false)}), Options{})
	if n, err := c.ReadAt(make([]byte, 5000), 8000); n != 2000 || err != io.EOF {
		t.Error(n, err)
	}
	for what, err := range map[string]error{
		"write": second(c.WriteAt(make([]byte, 5000), 8000)),
		"read":  second(c.ReadAt(make([]byte, 1), 10_001)),
		"zero":  c.Zero(0, 10_001, ZeroHow{}),
		"trim":  c.Trim(-1, 2),
	} {
		if !errors.Is(err, unix.EINVAL) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := c.WriteAt([]byte("end"), 9997); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

// failing is a disk that has gone bad.
type failing struct {
	*File
	err error
}

func (d failing) ReadAt([]byte, int64) (int, error)  { return 0, d.err }
func (d failing) WriteAt([]byte, int64) (int, error) { return 0, d.err }
func (d failing) Flush() error                       { return d.err }

// A disk's error comes through with its number, whoever serves is told, and the connection goes on.
func TestErrors(t *testing.T) {
	for _, plain := range []bool{false, true} {
		for err, want := range map[error]error{unix.EIO: unix.EIO, unix.EDQUOT: unix.ENOSPC, unix.EROFS: unix.EPERM, unix.EBADF: unix.EIO, io.ErrUnexpectedEOF: unix.EIO} {
			var reported sync.Map
			c := dial(t, serve(t, &Server{Backend: failing{file(t, disk(t, 1<<20), false), err}, Report: func(err error) { reported.Store(err.Error(), true) }}), Options{Plain: plain})
			for range 2 {
				for what, got := range map[string]error{"read": second(c.ReadAt(make([]byte, 512), 0)), "write": second(c.WriteAt(make([]byte, 512), 0)), "flush": c.Flush()} {
					var remote *RemoteError
					if !errors.Is(got, want) || !errors.As(got, &remote) || remote.Command != what {
						t.Errorf("%s of a disk that fails with %v: %v, want %v", what, err, got, want)
					}
				}
			}
			n := 0
			reported.Range(func(any, any) bool { n++; return true })
			if n != 3 {
				t.Errorf("%d reports", n)
			}
		}
	}
}

// After a flush has failed no other succeeds.
func TestLostWritesStayLost(t *testing.T) {
	d := file(t, disk(t, 1<<20), false)
	d.f.Close()
	if d.Flush() == nil {
		t.Fatal("flushed a closed file")
	}
	first := d.err
	d.f, _ = os.Open(os.DevNull)
	defer d.f.Close()
	if err := d.Flush(); err != first {
		t.Error(err)
	}
}
