// Package xenstore speaks with XenStore, the tree of small values that the domains of a
// Xen host share (xen/include/public/io/xs_wire.h, docs/misc/xenstore.txt).
package xenstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Device is where the kernel takes requests: in the domain that has XenStore and in
// every other.
const Device = "/dev/xen/xenbus"

// Conn is a connection. Its methods may be called from several goroutines.
type Conn struct {
	lock sync.Mutex
	rw   io.ReadWriteCloser
}

// Open connects.
func Open() (*Conn, error) {
	// Not os.Open: Go would poll the device, which answers nothing before it is asked.
	fd, err := unix.Open(Device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: Device, Err: err}
	}
	return &Conn{rw: os.NewFile(uintptr(fd), Device)}, nil
}

// Close ends the connection.
func (c *Conn) Close() error { return c.rw.Close() }

// Kinds of messages.
const (
	opRead     = 2
	opWrite    = 11
	opMkdir    = 12
	opRemove   = 13
	opSetPerms = 14
	opError    = 16
)

// payloadLimit bounds the payload of a message, in bytes (XENSTORE_PAYLOAD_MAX).
const payloadLimit = 4096

// Read reads a value. A path that does not begin with / is one of this domain. What is
// not there is os.ErrNotExist.
func (c *Conn) Read(path string) (string, error) {
	data, err := c.ask(opRead, path, path+"\x00")
	return string(data), err
}

// Write sets a value.
func (c *Conn) Write(path, value string) error {
	_, err := c.ask(opWrite, path, path+"\x00"+value)
	return err
}

// Mkdir makes an empty value, unless there is one.
func (c *Conn) Mkdir(path string) error {
	_, err := c.ask(opMkdir, path, path+"\x00")
	return err
}

// Remove removes a value and all below it. That it is not there is no error.
func (c *Conn) Remove(path string) error {
	_, err := c.ask(opRemove, path, path+"\x00")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Permit sets the permissions of a value: the first is its owner with what all others
// may do (n0: domain 0, others nothing), then what other domains may (r3: domain 3 may
// read).
func (c *Conn) Permit(path string, permissions ...string) error {
	_, err := c.ask(opSetPerms, path, path+"\x00"+strings.Join(permissions, "\x00")+"\x00")
	return err
}

// Await waits until a value is one of those wanted, at most so long. What is not there
// is "".
func (c *Conn) Await(timeout time.Duration, path string, wanted ...string) (string, error) {
	deadline := time.Now().Add(timeout)
	for {
		value, err := c.Read(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		for _, w := range wanted {
			if value == w {
				return value, nil
			}
		}
		if time.Now().After(deadline) {
			return value, fmt.Errorf("%s is %q after %v, not %s", path, value, timeout, strings.Join(wanted, " or "))
		}
		time.Sleep(30 * time.Millisecond)
	}
}

// ask sends a request and reads its answer.
func (c *Conn) ask(op uint32, path, payload string) ([]byte, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if len(payload) > payloadLimit {
		return nil, fmt.Errorf("xenstore %s: %d bytes are more than the %d that a message may have", path, len(payload), payloadLimit)
	}
	message := make([]byte, 16, 16+len(payload)) // type, request, transaction, length
	binary.LittleEndian.PutUint32(message, op)
	binary.LittleEndian.PutUint32(message[12:], uint32(len(payload)))
	if _, err := c.rw.Write(append(message, payload...)); err != nil {
		return nil, fmt.Errorf("xenstore %s: %w", path, err)
	}
	answered, data, err := readMessage(c.rw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("xenstore %s: %w", path, err)
	case answered == opError:
		return nil, fmt.Errorf("xenstore %s: %w", path, refusal(data))
	case answered != op:
		return nil, fmt.Errorf("xenstore %s: the answer is of type %d, not %d", path, answered, op)
	}
	return data, nil
}

// readMessage reads one message.
func readMessage(r io.Reader) (op uint32, data []byte, err error) {
	header := make([]byte, 16)
	if _, err := io.ReadFull(r, header); err != nil {
		return 0, nil, err
	}
	length := binary.LittleEndian.Uint32(header[12:])
	if length > payloadLimit {
		return 0, nil, fmt.Errorf("a message of %d bytes, more than %d", length, payloadLimit)
	}
	data = make([]byte, length)
	_, err = io.ReadFull(r, data)
	return binary.LittleEndian.Uint32(header), data, err
}

// refusal is the error that an answer names.
func refusal(data []byte) error {
	name := string(bytes.TrimSuffix(data, []byte{0}))
	known := map[string]error{"ENOENT": os.ErrNotExist, "EACCES": os.ErrPermission, "EEXIST": os.ErrExist}
	if err := known[name]; err != nil {
		return err
	}
	return fmt.Errorf("refused: %s", name)
}
