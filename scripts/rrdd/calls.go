// Package rrdd is an xcp-rrdd for tests: it answers a plugin's calls at a socket, and reads what plugins leave in shared memory, byte
// by byte as the public protocol has it (xapi-project/xen-api: doc/content/design/plugin-protocol-v2.md and ocaml/xcp-rrdd).
package rrdd

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Server is a daemon.
type Server struct {
	dir  string // of the plugins' files
	http http.Server

	mu         sync.Mutex
	next       float64 // seconds to its next reading, as it tells plugins
	registered map[string]*reader
	calls      []string
}

// Start starts a daemon that listens at a socket and has plugins' files in a directory. A socket that a daemon before it left is
// replaced, and what it finds in the directory is registered, as the real one does.
func Start(socket, dir string, next float64) (*Server, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, next: next, registered: map[string]*reader{}}
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".tmp") {
			s.register(f.Name(), "V2")
		}
	}
	s.http.Handler = http.HandlerFunc(s.serve)
	go s.http.Serve(l)
	return s, nil
}

// End ends it as a crash does: nobody is told.
func (s *Server) End() { s.http.Close() }

// Calls lists the calls that were made, and forgets them.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

// Registered says whether a plugin is registered.
func (s *Server) Registered(uid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.registered[uid] != nil
}

// Read is one reading of a plugin: ErrNoUpdate if it has written nothing since the last.
func (s *Server) Read(uid string) (*Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.registered[uid]
	if r == nil {
		return nil, fmt.Errorf("%s is not registered", uid)
	}
	return r.read()
}

func (s *Server) register(uid, protocol string) error {
	if protocol != "V2" {
		return fmt.Errorf("protocol %q", protocol)
	}
	if s.registered[uid] != nil {
		return nil // whatever file it is by now
	}
	r, err := open(filepath.Join(s.dir, uid))
	if err == nil {
		s.registered[uid] = r
	}
	return err
}

// call is a methodCall.
type call struct {
	XMLName xml.Name `xml:"methodCall"`
	Method  string   `xml:"methodName"`
	Params  []struct {
		Members []struct {
			Name  string `xml:"name"`
			Value struct {
				String string `xml:"string"`
			} `xml:"value"`
		} `xml:"value>struct>member"`
	} `xml:"params>param"`
}

// takes are the arguments of the calls, by their names.
var takes = map[string][]string{
	"Plugin.get_path": {"uid"}, "Plugin.Local.register": {"uid", "info", "protocol"}, "Plugin.Local.deregister": {"uid"}, "Plugin.Local.next_reading": {"uid"},
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/" || r.ContentLength < 0 {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	value, err := s.answer(body)
	if err != nil {
		value = fmt.Sprintf("<value><struct><member><name>Status</name><value>Failure</value></member><member><name>ErrorDescription</name><value><array><data><value>Rrdd_internal_error</value><value>%s</value></data></array></value></member></struct></value>", escape(err.Error()))
	} else {
		value = "<value><struct><member><name>Status</name><value>Success</value></member><member><name>Value</name>" + value + "</member></struct></value>"
	}
	io.WriteString(w, `<?xml version="1.0"?><methodResponse><params><param>`+value+`</param></params></methodResponse>`)
}

func (s *Server) answer(body []byte) (string, error) {
	var c call
	if err := xml.Unmarshal(body, &c); err != nil {
		return "", err
	}
	wanted := takes[c.Method]
	if wanted == nil {
		return "", fmt.Errorf("unknown method %q", c.Method)
	}
	if len(c.Params) != 1 || len(c.Params[0].Members) != len(wanted) {
		return "", fmt.Errorf("%s: %d parameters", c.Method, len(c.Params))
	}
	args := map[string]string{}
	for _, m := range c.Params[0].Members {
		args[m.Name] = m.Value.String
	}
	for _, name := range wanted {
		if args[name] == "" {
			return "", fmt.Errorf("%s: no argument %q", c.Method, name)
		}
	}
	uid := args["uid"]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, c.Method)
	switch c.Method {
	case "Plugin.get_path":
		return "<value>" + escape(filepath.Join(s.dir, uid)) + "</value>", nil
	case "Plugin.Local.deregister":
		delete(s.registered, uid)
		return "<value><nil/></value>", nil
	case "Plugin.Local.register":
		if args["info"] != "Five_Seconds" {
			return "", fmt.Errorf("frequency %q", args["info"])
		}
		if err := s.register(uid, args["protocol"]); err != nil {
			return "", err
		}
	}
	next := s.next
	if s.registered[uid] == nil {
		next = -1
	}
	return fmt.Sprintf("<value><double>%.16g</double></value>", next), nil
}

func escape(text string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(text))
	return b.String()
}
