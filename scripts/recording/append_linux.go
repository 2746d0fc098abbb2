package recording

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// kept is how much of a request, an answer or an error output is kept.
const kept = 1 << 20

// Append adds a call to a recording, which is made if there is none. Several
// processes may do so at once: a line is whole or not there.
func Append(path string, c Call) error {
	f, err := openRecording(path)
	if err != nil {
		return err
	}
	defer f.Close()
	line := encode(c)
	// Nor may somebody who holds the lock; O_APPEND alone is nearly as good.
	locked := lockWithin(f, unix.LOCK_EX, time.Second)
	st, err := f.Stat()
	if err != nil {
		return err
	}
	size := st.Size()
	if last := make([]byte, 1); size > 0 {
		if _, err := f.ReadAt(last, size-1); err == nil && last[0] != '\n' {
			line = append([]byte("\n"), line...) // a writer before us was killed in the middle
		}
	}
	_, err = f.Write(line)
	if err != nil && locked {
		f.Truncate(size) // half a line, on a full filesystem
	}
	return err
}

// openRecording opens a recording to append to, and makes it if there is none.
func openRecording(path string) (*os.File, error) {
	// A FIFO without a reader must not hold the call up.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NONBLOCK|unix.O_NOCTTY, 0o600)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("a recording is a regular file")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lockWithin takes a lock, or says that it was not to be had in time.
func lockWithin(f *os.File, how int, timeout time.Duration) bool {
	for deadline := time.Now().Add(timeout); ; time.Sleep(2 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return true
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR || time.Now().After(deadline) {
			return false
		}
	}
}

// encode is the call as a line that Read will take.
func encode(whole Call) []byte {
	for limit := kept; ; limit /= 4 {
		c := whole
		c.Cut = append([]string(nil), whole.Cut...)
		shorten := func(s *string, name string) {
			if len(*s) > limit {
				*s, c.Cut = (*s)[:limit], append(c.Cut, name)
			}
		}
		shorten(&c.RequestText, "request")
		shorten(&c.AnswerText, "answer")
		shorten(&c.Stderr, "stderr")
		room := limit
		for i := range c.Args {
			if room -= len(c.Args[i]); room < 0 {
				c.Args, c.Cut = c.Args[:i], append(c.Cut, "args")
				break
			}
		}
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(c); err != nil {
			return nil // cannot be: what is raw was checked
		}
		if b.Len() <= longestLine || limit < 1024 {
			return b.Bytes()
		}
	}
}

// capture keeps the beginning of what passes.
type capture struct {
	data []byte
	cut  bool
}

func (c *capture) add(p []byte) {
	n := min(len(p), kept-len(c.data))
	c.data = append(c.data, p[:n]...)
	c.cut = c.cut || n < len(p)
}

// value is what was kept: as JSON if it is, else as text.
func (c *capture) value() (json.RawMessage, string) {
	if c.cut || !utf8.Valid(c.data) || !json.Valid(c.data) || !json.Valid(append(append([]byte("["), c.data...), ']')) {
		return nil, string(c.data) // in brackets, because it will be a level deeper in the line
	}
	return c.data, ""
}
