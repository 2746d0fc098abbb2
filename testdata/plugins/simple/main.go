// Command simple is a SMAPIv3 plugin that is small and right: what the scenario kit
// is tried on. It has nothing in common with reflinksr but the loop devices: other
// configuration, other files, one lock for everything, and only the calls that the
// toolstack cannot do without.
//
// An SR is a directory on btrfs or XFS, "location": sr.json, and for each volume
// KEY.json and KEY.img. Who has what attached is in /run/simple-sr.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"reflinksr/testdata/plugins"
)

// run is where the state of this boot is.
const run = "/run/simple-sr"

// refusal is an error with its code and parameters on the wire.
type refusal struct {
	code   string
	params []string
}

func (r refusal) Error() string { return r.code + " " + strings.Join(r.params, " ") }

// named is an error of the interface.
func named(name, of string) error { return refusal{"SR_BACKEND_FAILURE", []string{name, of}} }

func refuse(n int, format string, args ...any) error {
	return refusal{fmt.Sprintf("SR_BACKEND_FAILURE_%d", n), []string{"", fmt.Sprintf(format, args...), ""}}
}

// request is what any call may be given.
type request struct {
	text map[string]string
	size int64
	bool bool
	conf map[string]string
}

func main() {
	call := filepath.Base(os.Args[0])
	if call == "simple" {
		if err := program(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "simple:", err)
			os.Exit(1)
		}
		return
	}
	value, err := answer(call)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(value)
	}
	if err != nil {
		var r refusal
		if !errors.As(err, &r) {
			r = refusal{"SR_BACKEND_FAILURE_42", []string{"", err.Error(), ""}}
		}
		json.NewEncoder(os.Stdout).Encode(map[string]any{"code": r.code, "params": r.params,
			"backtrace": map[string]any{"error": r.Error(), "files": []string{}, "lines": []int{}}})
		os.Exit(1)
	}
}

// program is what this does under its own name.
func program(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "install":
		return install(args[1])
	case len(args) == 3 && args[0] == "install":
		wrong, err := plugins.Read(args[2])
		if err != nil {
			return err
		}
		self, err := os.Executable()
		if err == nil {
			_, _, err = plugins.Install(self, args[1], wrong.Front)
		}
		return err
	}
	return errors.New("usage: simple install DIR [WRONG], where WRONG is one of " + strings.Join(plugins.Names(), ", "))
}

// answer carries out the call, alone on this host.
func answer(name string) (any, error) {
	c, ok := calls[name]
	if !ok {
		return nil, named("Unimplemented", name)
	}
	input, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<20+1))
	if err != nil {
		return nil, err
	}
	r, err := decode(input, strings.Fields("dbg "+c.params))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(run, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(run, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return nil, err
	}
	return c.do(r)
}

// decode reads one JSON object that has the parameters.
func decode(input []byte, params []string) (*request, error) {
	if len(input) > 1<<20 {
		return nil, refuse(1, "the request is longer than 1 MiB")
	}
	members, err := object(input)
	if err == nil && !utf8.Valid(input) {
		err = errors.New("it is not UTF-8")
	}
	if err != nil {
		return nil, refuse(1, "the request is not one JSON object: %v", err)
	}
	r := &request{text: map[string]string{}}
	for _, param := range params {
		name, kind, _ := strings.Cut(param, ":")
		raw, ok := members[name]
		if !ok || string(raw) == "null" {
			return nil, refuse(1, "%s is missing", name)
		}
		switch kind {
		case "size":
			err = json.Unmarshal(raw, &r.size)
			if err == nil && (r.size <= 0 && string(raw) != "0" || r.size > math.MaxInt64/8) {
				err = errors.New("it is no size of a disk")
			}
		case "bool":
			err = json.Unmarshal(raw, &r.bool)
		case "map":
			var inner map[string]json.RawMessage
			if inner, err = object(raw); err == nil {
				r.conf = map[string]string{}
				for k, v := range inner {
					var text string
					err = errors.Join(err, json.Unmarshal(v, &text))
					r.conf[k] = text
				}
			}
		default:
			var text string
			err = json.Unmarshal(raw, &text)
			r.text[name] = text
		}
		if err != nil {
			return nil, refuse(1, "%s: %v", name, err)
		}
	}
	return r, nil
}

// object reads one JSON object, no name twice, nothing after it.
func object(input []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(input))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New("it begins with something else")
	}
	members := map[string]json.RawMessage{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		key := name.(string)
		if _, twice := members[key]; twice {
			return nil, fmt.Errorf("%q is there twice", key)
		}
		members[key] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows it")
	}
	return members, nil
}

// parseKey reads the canonical text of a UUID.
func parseKey(text string) error {
	if id, err := uuid.Parse(text); err != nil || id.String() != text {
		return named("Volume_does_not_exist", text)
	}
	return nil
}

// store replaces a file by the JSON of a value, durably.
func store(path string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path + ".new")
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return flush(filepath.Dir(path))
}

// flush makes a directory's names durable.
func flush(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func load(path string, value any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, value)
}

// install makes the two plugin directories below root.
func install(root string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for name := range calls {
		dir := filepath.Join(root, "volume", "org.example.simple")
		if strings.HasPrefix(name, "Datapath.") {
			dir = filepath.Join(root, "datapath", scheme)
		}
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Symlink(self, filepath.Join(dir, name))); err != nil {
			return err
		}
	}
	return nil
}
