package scripts

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// pattern is an endless stream of bytes that depends on a seed.
func pattern(seed string) io.Reader {
	h := fnv.New128a()
	io.WriteString(h, seed)
	var key [32]byte
	h.Sum(key[:0])
	return rand.NewChaCha8(key)
}

// parseRange reads an offset and a length.
func parseRange(from, long string) (offset, length int64, err error) {
	if offset, err = ParseBytes(from); err != nil {
		return 0, 0, err
	}
	length, err = ParseBytes(long)
	return offset, length, err
}

// fill writes to a disk.
func (s *script) fill(_ bool, args []string) error {
	if len(args) != 4 {
		return usage("fill")
	}
	offset, length, err := parseRange(args[1], args[2])
	if err != nil {
		return err
	}
	return s.withDevice(args[0], false, func(path string) error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := io.CopyN(io.NewOffsetWriter(f, offset), pattern(args[3]), length); err != nil {
			return err
		}
		s.wrote(args[0])
		return f.Sync()
	})
}

// scatter is fill of every second 4 KiB: the pieces between stay what they are.
func (s *script) scatter(_ bool, args []string) error {
	if len(args) != 4 {
		return usage("scatter")
	}
	offset, length, err := parseRange(args[1], "1")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[2])
	if err != nil || n < 1 || length != 1 {
		return usage("scatter")
	}
	return s.withDevice(args[0], false, func(path string) error {
		f, err := os.OpenFile(path, os.O_WRONLY|unix.O_DIRECT, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		data, b := pattern(args[3]), aligned()
		for i := range int64(n) {
			if _, err := io.ReadFull(data, b); err != nil {
				return err
			}
			if _, err := f.WriteAt(b, offset+2*i*4096); err != nil {
				return err
			}
		}
		s.wrote(args[0])
		return f.Sync()
	})
}

// zero checks that a range reads as zeros.
func (s *script) zero(not bool, args []string) error {
	if len(args) != 3 {
		return usage("zero")
	}
	offset, length, err := parseRange(args[1], args[2])
	if err != nil {
		return err
	}
	return s.withDevice(args[0], true, func(path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		buffer := make([]byte, length)
		if _, err := f.ReadAt(buffer, offset); err != nil {
			return err
		}
		first := -1
		for i, b := range buffer {
			if b != 0 {
				first = i
				break
			}
		}
		if first < 0 && not {
			return fmt.Errorf("%d bytes at %d are all zero", length, offset)
		}
		if first >= 0 && !not {
			return fmt.Errorf("of %d bytes at %d the first that is not zero is number %d", length, offset, first)
		}
		s.saw(args[0])
		return nil
	})
}

// contents are what a disk held: its size in bytes and its SHA-256.
type contents struct {
	size int64
	sum  string
}

// contents reads a whole disk. If that is larger than like, and there are only zeros
// after like bytes, it counts as one of like bytes: it was grown. 0 for any size; then
// also may read along.
func (s *script) contents(key string, like int64, also ...io.Writer) (c contents, err error) {
	err = s.withDevice(key, true, func(path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		if like > 0 {
			c.size, err = io.CopyN(h, f, like)
			c.sum = hex.EncodeToString(h.Sum(nil))
			if err == io.EOF {
				return nil // it is smaller
			}
			if err != nil {
				return err
			}
		}
		rest := new(zeros)
		n, err := io.Copy(io.MultiWriter(append(also, h, rest)...), f)
		if like == 0 || rest.other {
			c.size, c.sum = c.size+n, hex.EncodeToString(h.Sum(nil))
		}
		return err
	})
	return c, err
}

// zeros sees whether anything else is written to it.
type zeros struct{ other bool }

func (z *zeros) Write(p []byte) (int, error) {
	z.other = z.other || bytes.IndexFunc(p, func(r rune) bool { return r != 0 }) >= 0
	return len(p), nil
}

func (c contents) String() string { return fmt.Sprintf("%d bytes %.12s…", c.size, c.sum) }

func (s *script) sum(_ bool, args []string) error {
	if len(args) != 1 {
		return usage("sum")
	}
	held := new(pieces)
	c, err := s.contents(args[0], 0, held)
	s.sums[args[0]], s.remembered[args[0]] = c, held
	return err
}

func (s *script) same(_ bool, args []string) error    { return s.compare("same", args, true) }
func (s *script) differs(_ bool, args []string) error { return s.compare("differs", args, false) }

func (s *script) compare(verb string, args []string, want bool) (err error) {
	if len(args) < 1 || len(args) > 2 {
		return usage(verb)
	}
	reference, ok := s.sums[args[0]]
	what, like := "what it held at its last sum", reference.size
	if len(args) == 2 {
		ok, what, like = true, "what "+args[1]+" holds", 0
		if reference, err = s.contents(args[1], 0); err != nil {
			return err
		}
	}
	if !ok {
		return fmt.Errorf("there was no sum of %s", args[0])
	}
	got, err := s.contents(args[0], like)
	if err != nil {
		return err
	}
	if (got == reference) != want {
		return fmt.Errorf("%s holds %v, and %s is %v", args[0], got, what, reference)
	}
	s.saw(args...)
	return nil
}
