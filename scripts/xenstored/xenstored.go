// Package xenstored is a xenstored for tests, on a socket. It speaks as much of the public protocol (Xen's docs/misc/xenstore.txt) as who
// reads a host's disks needs; Xen's own clients are content with it. Xen's daemon does not run where there is no Xen.
package xenstored

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Types of messages.
const (
	directory = 1
	read      = 2
	watch     = 4
	begin     = 6 // a transaction; each request is carried out at once all the same
	end       = 7
	write     = 11
	remove    = 13
	event     = 15
	refusal   = 16
	part      = 22
)

const most = 4096 // bytes of a message after its header

type header struct{ Type, Request, Transaction, Length uint32 }

// Server is a xenstored.
type Server struct {
	listener net.Listener
	mu       sync.Mutex
	values   map[string]string // "" of a directory
	changes  int
	watches  map[*connection][]watched
}

type watched struct{ path, token string }

// Start starts it.
func Start(dir string) (*Server, string, error) {
	socket := filepath.Join(dir, "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, "", err
	}
	s := &Server{listener: l, values: map[string]string{"": ""}, watches: map[*connection][]watched{}}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(&connection{conn: conn})
		}
	}()
	return s, socket, nil
}

// End ends it and all connections.
func (s *Server) End() {
	s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.watches {
		c.conn.Close()
	}
}

type connection struct {
	conn net.Conn
	mu   sync.Mutex
}

func (c *connection) say(kind, request uint32, payload string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	message, _ := binary.Append(nil, binary.NativeEndian, header{Type: kind, Request: request, Length: uint32(len(payload))})
	c.conn.Write(append(message, payload...))
}

func (s *Server) serve(c *connection) {
	s.mu.Lock()
	s.watches[c] = nil
	s.mu.Unlock()
	defer func() {
		c.conn.Close()
		s.mu.Lock()
		delete(s.watches, c)
		s.mu.Unlock()
	}()
	for {
		var h header
		if binary.Read(c.conn, binary.NativeEndian, &h) != nil || h.Length > most {
			return
		}
		body := make([]byte, h.Length)
		if _, err := io.ReadFull(c.conn, body); err != nil {
			return
		}
		s.mu.Lock()
		payload, refused, after := s.answer(c, h.Type, string(body))
		s.mu.Unlock()
		if refused != "" {
			c.say(refusal, h.Request, refused+"\x00")
			continue
		}
		c.say(h.Type, h.Request, payload)
		after()
	}
}

// answer answers a request; after is for when the answer was given.
func (s *Server) answer(c *connection, kind uint32, body string) (payload, refused string, after func()) {
	after = func() {}
	switch kind {
	case begin:
		return "1\x00", "", after
	case end:
		return "OK\x00", "", after
	}
	path, rest, ok := strings.Cut(body, "\x00")
	if !ok || !strings.HasPrefix(path, "/") {
		return "", "EINVAL", after
	}
	value, there := s.values[path]
	switch kind {
	case write:
		for p := path; p != ""; p = p[:strings.LastIndex(p, "/")] {
			if _, there := s.values[p]; !there {
				s.values[p] = ""
			}
		}
		s.values[path] = rest
		return "OK\x00", "", s.tell(path)
	case watch:
		token := strings.TrimSuffix(rest, "\x00")
		s.watches[c] = append(s.watches[c], watched{path, token})
		return "OK\x00", "", func() { c.say(event, 0, path+"\x00"+token+"\x00") }
	}
	if !there {
		return "", "ENOENT", after
	}
	switch kind {
	case read:
		return value, "", after
	case remove:
		maps.DeleteFunc(s.values, func(p, _ string) bool { return p == path || strings.HasPrefix(p, path+"/") })
		return "OK\x00", "", s.tell(path)
	}
	var names strings.Builder
	for _, p := range slices.Sorted(maps.Keys(s.values)) {
		if name, below := strings.CutPrefix(p, path+"/"); below && !strings.Contains(name, "/") {
			names.WriteString(name + "\x00")
		}
	}
	list := names.String()
	switch {
	case kind == directory && len(list) > most:
		return "", "E2BIG", after
	case kind == directory:
		return list, "", after
	case kind != part:
		return "", "ENOSYS", after
	}
	offset, err := strconv.Atoi(strings.TrimSuffix(rest, "\x00"))
	if err != nil || offset > len(list) {
		return "", "EINVAL", after
	}
	start := fmt.Sprint(s.changes) + "\x00"
	rest = list[offset:]
	if room := most - len(start) - 1; len(rest) > room {
		rest = rest[:strings.LastIndex(rest[:room], "\x00")+1]
	} else {
		rest += "\x00"
	}
	return start + rest, "", after
}

// tell tells those who watch.
func (s *Server) tell(path string) func() {
	s.changes++
	var all []func()
	for c, list := range s.watches {
		for _, w := range list {
			if path == w.path || strings.HasPrefix(path, w.path+"/") || strings.HasPrefix(w.path, path+"/") {
				all = append(all, func() { c.say(event, 0, path+"\x00"+w.token+"\x00") })
			}
		}
	}
	return func() {
		for _, say := range all {
			say()
		}
	}
}

// Write writes values, as the toolstack does, to whichever xenstored is at the socket.
func Write(socket string, values map[string]string) error {
	return ask(socket, func(say func(kind uint32, body string) error) error {
		for _, path := range slices.Sorted(maps.Keys(values)) {
			if err := say(write, path+"\x00"+values[path]); err != nil {
				return err
			}
		}
		return nil
	})
}

// Remove removes what is at a path and below it.
func Remove(socket, path string) error {
	return ask(socket, func(say func(kind uint32, body string) error) error { return say(remove, path+"\x00") })
}

func ask(socket string, do func(say func(kind uint32, body string) error) error) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	return do(func(kind uint32, body string) error {
		message, err := binary.Append(nil, binary.NativeEndian, header{Type: kind, Length: uint32(len(body))})
		if err != nil {
			return err
		}
		if _, err := conn.Write(append(message, body...)); err != nil {
			return err
		}
		var h header
		if err := binary.Read(conn, binary.NativeEndian, &h); err != nil {
			return err
		}
		answer := make([]byte, h.Length)
		if _, err := io.ReadFull(conn, answer); err != nil {
			return err
		}
		if h.Type != kind {
			return errors.New("xenstored: " + strings.TrimRight(string(answer), "\x00"))
		}
		return nil
	})
}
