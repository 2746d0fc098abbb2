package xenstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"reflinksr/scripts/xenstored"
)

// connect starts a xenstored and connects to it, at the second place.
func connect(t *testing.T) (socket string, c *Client) {
	t.Helper()
	s, socket, err := xenstored.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.End)
	if c, err = Open([]string{filepath.Join(t.TempDir(), "none"), socket}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return socket, c
}

func put(t *testing.T, socket string, values map[string]string) {
	t.Helper()
	if err := xenstored.Write(socket, values); err != nil {
		t.Fatal(err)
	}
}

// Values and lists are read as they were written, however long a list is, and what is not there is said to be so.
func TestReading(t *testing.T) {
	socket, c := connect(t)
	put(t, socket, map[string]string{"/a/b": "value", "/a/empty": "", "/a/c/d": "x\ny"})
	for path, want := range map[string]string{"/a/b": "value", "/a/empty": "", "/a/c": "", "/a/c/d": "x\ny"} {
		if got, err := c.Read(path); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	if names, err := c.Directory("/a"); err != nil || !equal(names, []string{"b", "c", "empty"}) {
		t.Errorf("%q, %v", names, err)
	}
	if names, err := c.Directory("/a/b"); err != nil || len(names) > 0 {
		t.Errorf("an empty one: %q, %v", names, err)
	}
	for _, path := range []string{"/none", "/a/b/none"} {
		if _, err := c.Read(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := c.Directory(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := c.Read(strings.Repeat("/long", 1000)); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("a path of 5000 bytes: %v", err)
	}
	if got, err := c.Read("/a/b"); err != nil || got != "value" {
		t.Errorf("after a refusal: %q, %v", got, err)
	}
}

// More domains than one message has room for.
func TestListInParts(t *testing.T) {
	socket, c := connect(t)
	for _, n := range []int{100, 409, 410, 411, 900} { // names of nine bytes and a NUL
		top, values, want := fmt.Sprintf("/many%d", n), map[string]string{}, []string{}
		for i := range n {
			name := fmt.Sprintf("%09d", i)
			values[top+"/"+name], want = "", append(want, name)
		}
		put(t, socket, values)
		if names, err := c.Directory(top); err != nil || !equal(names, want) {
			t.Errorf("%d: %d names, %v", n, len(names), err)
		}
	}
}

// A list that changes while it is read in parts is read anew; one that always changes, or ends in the middle, is an error.
func TestListChanges(t *testing.T) {
	type part struct {
		kind    uint32
		payload string
	}
	big := part{typeError, "E2BIG\x00"}
	for what, c := range map[string]struct {
		says []part
		want []string
		err  string
	}{
		"anew":      {[]part{big, {22, "1\x00a\x00b\x00"}, {22, "2\x00c\x00\x00"}, {22, "2\x00d\x00"}, {22, "2\x00e\x00\x00"}}, []string{"d", "e"}, ""},
		"emptied":   {[]part{big, {22, "1\x00a\x00"}, {22, "2\x00\x00"}, {22, "2\x00\x00"}}, nil, ""},
		"ever anew": {append([]part{big}, slices.Repeat([]part{{22, "1\x00a\x00"}, {22, "2\x00b\x00"}}, attempts)...), nil, "changes all the time"},
		"gone":      {[]part{big, {22, "1\x00a\x00"}, {typeError, "ENOENT\x00"}}, nil, "does not exist"},
		"no names":  {[]part{big, {22, "1\x00a\x00"}, {22, "1\x00"}}, nil, "half an answer"},
		"no part":   {[]part{big, {22, "1"}}, nil, "half an answer"},
	} {
		socket := filepath.Join(t.TempDir(), "socket")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			for _, p := range c.says {
				var h header
				if binary.Read(conn, binary.NativeEndian, &h) != nil {
					return
				}
				io.CopyN(io.Discard, conn, int64(h.Length))
				binary.Write(conn, binary.NativeEndian, header{Type: p.kind, Request: h.Request, Length: uint32(len(p.payload))})
				conn.Write([]byte(p.payload))
			}
		}()
		client, err := Open([]string{socket})
		if err != nil {
			t.Fatal(err)
		}
		got, err := client.Directory("/x")
		if c.err == "" && (err != nil || !slices.Equal(got, c.want)) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
		client.Close()
		l.Close()
	}
}

func equal(got, want []string) bool { return slices.Equal(slices.Sorted(slices.Values(got)), want) }

// A change below what is watched is told of once, between answers; another is not.
func TestWatch(t *testing.T) {
	socket, c := connect(t)
	if c.Changed() {
		t.Error("a change of nothing")
	}
	changed := func(want bool, after string) {
		t.Helper()
		got := c.Changed()
		for range 100 { // the event may come after the answer that it belongs to
			if got || !want {
				break
			}
			time.Sleep(50 * time.Millisecond)
			c.Read("/w")
			got = c.Changed()
		}
		if got != want {
			t.Errorf("after %s: %v", after, got)
		}
	}
	if err := c.Watch("/w"); err != nil {
		t.Fatal(err)
	}
	changed(true, "the watch is new")
	changed(false, "nothing")
	put(t, socket, map[string]string{"/w/x/y": "1"})
	changed(true, "a value below")
	put(t, socket, map[string]string{"/other": "1", "/ww": "1"})
	if _, err := c.Read("/other"); err != nil {
		t.Fatal(err)
	}
	changed(false, "a value elsewhere")
	if err := xenstored.Remove(socket, "/w/x"); err != nil {
		t.Fatal(err)
	}
	changed(true, "a removal")
}

// Disks are found with what is behind them; those that are half made, and what is no disk, are left out.
func TestDisks(t *testing.T) {
	socket, c := connect(t)
	if disks, err := c.Disks(); err != nil || disks != nil {
		t.Errorf("of no guest: %v, %v", disks, err)
	}
	const uuid = "0e4b1f0a-4b1c-4d8e-9a53-b0e1c9a0f001"
	back := Backends
	put(t, socket, map[string]string{
		"/local/domain/7/vm":              "/vm/" + uuid,
		back + "/7/51712/dev":             "xvda",
		back + "/7/51712/physical-device": "7:1f",
		back + "/7/51712/params":          "/dev/loop31",
		back + "/7/51712/state":           "4",
		back + "/7/51728/state":           "2",
		back + "/7/51728/dev":             "xvdb",
		back + "/7/51728/params":          "/dev/loop4",
		back + "/7/51744/params":          "/dev/loop5", // no name yet
		back + "/7/51760/dev":             "xvdd",       // an empty drive
		back + "/8/51712/dev":             "xvda",       // of no VM any more
		back + "/8/51712/physical-device": "7:1",
		back + "/junk/51712/dev":          "xvda",
		"/local/domain/9/vm":              "/vm/" + uuid + "/sub",
		back + "/9":                       "",
	})
	disks, err := c.Disks()
	want := []Disk{{Domain: 7, VM: uuid, Name: "xvda", Major: 7, Minor: 31, Connected: true}, {Domain: 7, VM: uuid, Name: "xvdb", Path: "/dev/loop4"}}
	if err != nil || !reflect.DeepEqual(disks, want) {
		t.Errorf("%+v, %v", disks, err)
	}
}

// A daemon that is none, or ends, is an error and no hanging.
func TestBadDaemon(t *testing.T) {
	if _, err := Open([]string{filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no daemon: %v", err)
	}
	message := func(kind, request, length uint32, payload string) string {
		m, err := binary.Append(nil, binary.NativeEndian, header{Type: kind, Request: request, Length: length})
		if err != nil {
			t.Fatal(err)
		}
		return string(m) + payload
	}
	for what, says := range map[string]string{
		"nothing": "", "half a header": "abc", "half a payload": message(typeRead, 1, 10, "abc"), "too long": message(typeRead, 1, payloadMax+1, ""),
		"another request": message(typeRead, 2, 1, "a"), "another type": message(typeDirectory, 1, 1, "a"), "an odd error": message(typeError, 1, 7, "E\x1b[31m\x00"),
	} {
		socket := filepath.Join(t.TempDir(), "socket")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := l.Accept()
			if err == nil {
				conn.Read(make([]byte, 100))
				conn.Write([]byte(says))
				conn.Close()
			}
		}()
		c, err := Open([]string{socket})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Read("/a"); err == nil || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %q, %v", what, got, err)
		}
		if _, err := c.Read("/a"); err == nil {
			t.Errorf("%s: it goes on", what)
		}
		for range 100 {
			if c.Over() {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if !c.Over() {
			t.Errorf("%s: it is not over", what)
		}
		c.Close()
		l.Close()
	}
}
