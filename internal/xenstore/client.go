package xenstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Types of messages (xs_wire.h).
const (
	typeDirectory     = 1
	typeRead          = 2
	typeWatch         = 4
	typeWatchEvent    = 15
	typeError         = 16
	typeDirectoryPart = 22
)

// payloadMax is XENSTORE_PAYLOAD_MAX: no message has more bytes after its header.
const payloadMax = 4096

// timeout is how long the daemon may take to answer.
const timeout = 10 * time.Second

// header is struct xsd_sockmsg, in the byte order of the machine.
type header struct{ Type, Request, Transaction, Length uint32 }

// Places are where xenstored listens: its socket, or, where it runs in a domain of its own, the kernel's device.
func Places() []string {
	return []string{"/run/xenstored/socket", "/var/run/xenstored/socket", "/dev/xen/xenbus"}
}

// Client is a connection to xenstored. Its methods may not be called at once.
type Client struct {
	stream  io.ReadWriteCloser
	request uint32
	answers chan answer
	over    error // why there are no more answers, once that is closed
	ended   atomic.Bool
	changed atomic.Bool
	closing sync.Once
}

type answer struct {
	header
	payload []byte
}

// Open connects to xenstored at the first of the places that is there: os.ErrNotExist if none is.
func Open(places []string) (*Client, error) {
	for _, place := range places {
		st, err := os.Stat(place)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var stream io.ReadWriteCloser
		if st.Mode()&os.ModeSocket != 0 {
			stream, err = net.DialTimeout("unix", place, timeout)
		} else {
			stream, err = os.OpenFile(place, os.O_RDWR, 0)
		}
		if err != nil {
			return nil, err
		}
		c := &Client{stream: stream, answers: make(chan answer)}
		go c.listen()
		return c, nil
	}
	return nil, fmt.Errorf("no xenstored at %s: %w", strings.Join(places, ", "), os.ErrNotExist)
}

// Close ends the connection.
func (c *Client) Close() error {
	err := error(nil)
	c.closing.Do(func() {
		err = c.stream.Close()
		go func() {
			for range c.answers { // whatever was under way
			}
		}()
	})
	return err
}

// listen takes what the daemon says: answers, and between them events.
func (c *Client) listen() {
	defer close(c.answers)
	defer c.ended.Store(true)
	for {
		var a answer
		if c.over = binary.Read(c.stream, binary.NativeEndian, &a.header); c.over != nil {
			return
		}
		if a.Length > payloadMax {
			c.over = fmt.Errorf("a message of %d bytes, of at most %d", a.Length, payloadMax)
			return
		}
		a.payload = make([]byte, a.Length)
		if _, c.over = io.ReadFull(c.stream, a.payload); c.over != nil {
			return
		}
		if a.Type == typeWatchEvent {
			c.changed.Store(true)
			continue
		}
		c.answers <- a
	}
}

// Read answers the value at a path: os.ErrNotExist if there is none.
func (c *Client) Read(path string) (string, error) {
	value, err := c.ask(typeRead, "read", path)
	return string(value), err
}

// Directory lists what is below a path: os.ErrNotExist if that is not there.
func (c *Client) Directory(path string) ([]string, error) {
	list, err := c.ask(typeDirectory, "list", path)
	if errors.Is(err, errTooBig) {
		list, err = c.inParts(path)
	}
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(string(list), func(r rune) bool { return r == 0 }), nil
}

// attempts is how often a list is begun anew that changes while it is read in parts.
const attempts = 5

// inParts lists what has no room in one message. Each part begins with the generation of the list, and the last ends with an empty name.
func (c *Client) inParts(path string) (list []byte, err error) {
	generation := ""
	for restarts := 0; ; {
		part, err := c.ask(typeDirectoryPart, "list", path, fmt.Sprint(len(list)))
		if err != nil {
			return nil, err
		}
		now, names, ok := bytes.Cut(part, []byte{0})
		switch {
		case !ok || len(names) == 0:
			return nil, fmt.Errorf("listing %s in xenstore: half an answer", path)
		case len(list) > 0 && string(now) != generation:
			if restarts++; restarts == attempts {
				return nil, fmt.Errorf("listing %s in xenstore: it changes all the time", path)
			}
			list = nil
			continue
		}
		generation = string(now)
		if list = append(list, names...); bytes.HasSuffix(list, []byte{0, 0}) || len(names) == 1 && names[0] == 0 {
			return list, nil
		}
	}
}

// Watch has Changed tell from now on of what happens at a path and below it.
func (c *Client) Watch(path string) error {
	_, err := c.ask(typeWatch, "watch", path, "w")
	return err
}

// Over says that the connection has ended, and that nobody will tell of changes any more.
func (c *Client) Over() bool { return c.ended.Load() }

// Changed says whether something that is watched has changed since it was asked last. Of a watch that is new, it has.
func (c *Client) Changed() bool { return c.changed.Swap(false) }

var errTooBig = errors.New("too much for one message")

// refusals are names of errors that matter to somebody.
var refusals = map[string]error{"ENOENT": fs.ErrNotExist, "EACCES": fs.ErrPermission, "E2BIG": errTooBig}

// ask sends one request and waits for its answer.
func (c *Client) ask(kind uint32, what, path string, more ...string) (payload []byte, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("asking xenstore to %s %s: %w", what, path, err)
		}
	}()
	body := strings.Join(append([]string{path}, more...), "\x00") + "\x00"
	if len(body) > payloadMax {
		return nil, errTooBig
	}
	c.request++
	message, err := binary.Append(nil, binary.NativeEndian, header{Type: kind, Request: c.request, Length: uint32(len(body))}) // #nosec G115 -- below payloadMax
	if err != nil {
		return nil, err
	}
	if _, err := c.stream.Write(append(message, body...)); err != nil {
		return nil, err
	}
	late := time.NewTimer(timeout)
	defer late.Stop()
	select {
	case a, ok := <-c.answers:
		switch {
		case !ok:
			return nil, c.over
		case a.Request != c.request:
			c.stream.Close() // what comes next is nobody's
			return nil, fmt.Errorf("the answer to request %d came for %d", a.Request, c.request)
		case a.Type == typeError:
			name := strings.TrimRight(string(a.payload), "\x00")
			if known := refusals[name]; known != nil {
				return nil, known
			}
			return nil, fmt.Errorf("xenstored refuses: %q", name)
		case a.Type != kind:
			c.stream.Close()
			return nil, fmt.Errorf("an answer of type %d, of %d", a.Type, kind)
		}
		return a.payload, nil
	case <-late.C:
		c.stream.Close()
		return nil, os.ErrDeadlineExceeded
	}
}
