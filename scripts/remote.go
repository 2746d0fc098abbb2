package scripts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// Request is a line for another host to carry out.
type Request struct {
	Words []string          `json:"words"`
	Not   bool              `json:"not"`
	Env   map[string]string `json:"env"` // variables of the scenario
	// Known is what the scenario has seen of disks, on whatever host.
	Known Known `json:"known"`
}

// Known is what disks held, by volume.
type Known struct {
	Sums  map[string]Sum    `json:"sums,omitempty"`
	Marks map[string]uint64 `json:"marks,omitempty"` // of writers: what was acknowledged
}

// Sum is a disk's size in bytes and its SHA-256.
type Sum struct {
	Size int64  `json:"size"`
	Sum  string `json:"sum"`
}

// Reply is what came of it.
type Reply struct {
	Error  string            `json:"error"` // "" if it did as it should
	Told   string            `json:"told"`  // for the log
	Output string            `json:"output"`
	Env    map[string]string `json:"env"` // variables that were set
	Known  Known             `json:"known"`
}

// Serve carries out the lines that come over a connection, as one scenario of t: lines
// of scenarios that a lab runs on several hosts. dir is an empty directory. It returns
// when the other side has ended the connection.
func Serve(t testscript.T, c Config, dir string, conn io.ReadWriter) error {
	return hold(t, c, dir, func(s *script) {
		requests, replies := json.NewDecoder(conn), json.NewEncoder(conn)
		for {
			var r Request
			err := requests.Decode(&r)
			if err == nil {
				err = replies.Encode(s.serve(r))
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				s.ts.Fatalf("%v", err)
			}
		}
	})
}

// serve carries one line out.
func (s *script) serve(r Request) Reply {
	for name, value := range r.Env {
		s.ts.Setenv(name, value)
	}
	s.learn(r.Known)
	var told, output bytes.Buffer
	s.shell, s.set = &told, map[string]string{}
	err := s.remote(r, &output)
	reply := Reply{Told: told.String(), Output: output.String(), Env: s.set, Known: s.known()}
	if err != nil {
		reply.Error = err.Error()
	}
	return reply
}

// remote is what another host can be told to do: a verb, exec or env.
func (s *script) remote(r Request, output io.Writer) error {
	name, args := r.Words[0], r.Words[1:]
	if name == "exec" && len(args) > 0 {
		c := exec.CommandContext(s.config.context(), args[0], args[1:]...)
		var printed bytes.Buffer
		c.Dir, c.Stdout, c.Stderr = s.work, io.MultiWriter(output, &printed), io.MultiWriter(s.shell, &printed)
		err := c.Run()
		if (err != nil) != r.Not {
			return fmt.Errorf("%s: %v: %s", strings.Join(args, " "), err, lastLine(printed.String()))
		}
		return nil
	}
	if name == "env" {
		for _, arg := range args {
			k, v, _ := strings.Cut(arg, "=")
			s.setenv(k, v)
		}
		return nil
	}
	v, err := find(name, r.Not)
	if err != nil {
		return err
	}
	s.output = output
	return v.run(s, r.Not, args)
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// learn takes over what was seen on other hosts.
func (s *script) learn(k Known) {
	for key, sum := range k.Sums {
		s.sums[key] = contents{sum.Size, sum.Sum}
	}
	if k.Marks != nil {
		s.marks = k.Marks
	}
}

// known is what this one has seen, or learned.
func (s *script) known() Known {
	k := Known{Sums: map[string]Sum{}, Marks: s.marks}
	for key, c := range s.sums {
		k.Sums[key] = Sum{c.size, c.sum}
	}
	return k
}
