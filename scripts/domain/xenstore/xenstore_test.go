package xenstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// store answers as XenStore does, from a map.
func store(conn io.ReadWriter, values map[string]string) {
	for {
		op, data, err := readMessage(conn)
		if err != nil {
			return
		}
		path, rest, _ := strings.Cut(string(data), "\x00")
		answer := "OK\x00"
		_, there := values[path]
		switch {
		case op == opWrite:
			values[path] = rest
		case op == opMkdir:
			values[path] = ""
		case !there:
			op, answer = opError, "ENOENT\x00"
		case op == opRead:
			answer = values[path]
		case op == opRemove:
			delete(values, path)
		}
		header := make([]byte, 16)
		binary.LittleEndian.PutUint32(header, op)
		binary.LittleEndian.PutUint32(header[12:], uint32(len(answer)))
		conn.Write(append(header, answer...))
	}
}

func TestConversation(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	go store(there, map[string]string{"/local": "", "/local/name": "host"})
	c := &Conn{rw: here}
	if v, err := c.Read("/local/name"); v != "host" || err != nil {
		t.Errorf("the value is %q, %v", v, err)
	}
	if _, err := c.Read("/nothing"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/nothing") {
		t.Errorf("what is not there is %v", err)
	}
	if err := errors.Join(c.Write("/local/state", "1"), c.Mkdir("/local/dir"), c.Permit("/local/dir", "n1", "r0")); err != nil {
		t.Error(err)
	}
	if err := errors.Join(c.Remove("/local/state"), c.Remove("/local/state")); err != nil {
		t.Errorf("removing twice: %v", err)
	}
	if v, err := c.Await(time.Minute, "/local/name", "other", "host"); v != "host" || err != nil {
		t.Errorf("waiting for a value: %q, %v", v, err)
	}
	if v, err := c.Await(0, "/local/state", "4"); v != "" || err == nil {
		t.Errorf("waiting in vain: %q, %v", v, err)
	}
	if err := c.Write("/long", strings.Repeat("x", payloadLimit)); err == nil {
		t.Error("a value too long for a message was sent")
	}
}

func TestRefusal(t *testing.T) {
	for name, want := range map[string]error{"ENOENT\x00": os.ErrNotExist, "EACCES\x00": os.ErrPermission, "EEXIST": os.ErrExist} {
		if err := refusal([]byte(name)); err != want {
			t.Errorf("%q is %v", name, err)
		}
	}
	if err := refusal([]byte("EQUOTA\x00")); !strings.Contains(err.Error(), "EQUOTA") {
		t.Errorf("the error is %v", err)
	}
}

func FuzzReadMessage(f *testing.F) {
	f.Add(make([]byte, 16))
	f.Add([]byte("\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00ab"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, payload, err := readMessage(bytes.NewReader(data))
		if err == nil && len(payload) != int(binary.LittleEndian.Uint32(data[12:])) {
			t.Errorf("a payload of %d bytes", len(payload))
		}
	})
}
