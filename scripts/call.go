package scripts

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/scripts/owned"
)

// refusal is the error that a plugin answers.
type refusal struct {
	Code      string   `json:"code"`
	Params    []string `json:"params"`
	Backtrace *struct {
		Error *string   `json:"error"`
		Files *[]string `json:"files"`
		Lines *[]int    `json:"lines"`
	} `json:"backtrace"`
}

// unimplemented says that the call is not offered.
func (r *refusal) unimplemented() bool {
	return r.Code == "SR_BACKEND_FAILURE" && len(r.Params) > 0 && r.Params[0] == "Unimplemented"
}

func (r *refusal) Error() string { return fmt.Sprintf("refused: %s %q", r.Code, r.Params) }

// call is the verb.
func (s *script) call(not bool, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return usage("call")
	}
	text := "{}"
	if len(args) == 2 {
		text = args[1]
	}
	request, err := s.expand(text)
	if err != nil {
		return err
	}
	before := ""
	if not {
		if before, err = s.fingerprint(); err != nil {
			return err
		}
	}
	_, err = s.invoke(args[0], request)
	var refused *refusal
	switch isRefusal := errors.As(err, &refused); {
	case !not && isRefusal && s.unimplemented():
		return errNotOffered{args[0]}
	case !not:
		return err
	case err == nil:
		return fmt.Errorf("%s %s succeeded and should have been refused; it answered %s", args[0], request, encode(s.last))
	case !isRefusal:
		return err
	}
	after, err := s.fingerprint()
	if err == nil && after != before {
		err = fmt.Errorf("%s was refused (%s), but the SR is not as before\nbefore:\n%s\nafter:\n%s", args[0], refused, before, after)
	}
	return err
}

// unimplemented says whether the last call was refused as not offered.
func (s *script) unimplemented() bool {
	return len(s.calls) > 0 && s.calls[len(s.calls)-1].Outcome == NotOffered
}

// mustCall calls with arguments given as a value, for a verb that needs the call.
func (s *script) mustCall(method string, args map[string]any) (any, error) {
	if _, ok := args["dbg"]; !ok {
		args["dbg"] = "scenario"
	}
	request, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	value, err := s.invoke(method, request)
	var refused *refusal
	if errors.As(err, &refused) && refused.unimplemented() {
		return nil, errNotOffered{method}
	}
	return value, err
}

// invoke makes one call as the toolstack does. A refusal is an error that is *refusal.
func (s *script) invoke(method string, request []byte) (any, error) {
	path, err := s.locate(method, request)
	if err != nil {
		return nil, err
	}
	s.last, s.refusal = nil, nil
	s.calls = append(s.calls, Call{Method: path[strings.LastIndexByte(path, '/')+1:], Request: shorten(request)})
	made := &s.calls[len(s.calls)-1]
	if s.naming {
		s.named = len(s.calls)
	}
	start := time.Now()
	stdout, stderr, failed := s.fork(path, request)
	made.Seconds = time.Since(start).Seconds()
	made.Answer = shorten(stdout.Bytes())
	value, err := judge(filepath.Base(path), stdout, stderr, failed)
	var refused *refusal
	switch {
	case err == nil:
		made.Outcome, s.last = Works, value
		s.claims(made.Method, request, value)
		if volume, ok := value.(map[string]any); ok {
			if key, ok := volume["key"].(string); ok {
				s.keys[key] = true
			}
		}
	case errors.As(err, &refused):
		made.Outcome, s.refusal = Refuses, refused
		if refused.unimplemented() {
			made.Outcome = NotOffered
		}
	default:
		made.Outcome = Wrong
		err = fmt.Errorf("%s %s: %w", method, shorten(request), err)
	}
	return value, err
}

// fork runs one process of a plugin, at most for as long as a call may take. What
// it leaves running is killed: the toolstack would wait for it.
func (s *script) fork(path string, request []byte) (stdout, stderr *capped, err error) {
	stdout, stderr = new(capped), new(capped)
	ctx, cancel := context.WithTimeout(s.config.context(), s.config.timeout())
	defer cancel()
	c := exec.CommandContext(ctx, path, "--json")
	if s.sandbox.Unusual() {
		self, argv, err := s.sandbox.Command(path, "--json")
		if err != nil {
			return stdout, stderr, err
		}
		c = exec.CommandContext(ctx, self)
		c.Args = argv
	}
	c.Stdin = bytes.NewReader(request)
	c.Stdout, c.Stderr = stdout, stderr
	confine(c)
	err = c.Run()
	switch {
	case s.config.stopped() != nil:
		err = s.config.stopped()
	case ctx.Err() != nil:
		err = fmt.Errorf("no answer within %v; killed%s", s.config.timeout(), printed(stdout, stderr))
	case errors.Is(err, exec.ErrWaitDelay):
		group := owned.InGroup(c.Process.Pid)
		for _, pid := range owned.Processes(group) {
			owned.Signal(pid, unix.SIGKILL, group)
		}
		err = errors.New("it exited, but a process that it started keeps standard output or standard error open: the toolstack waits for both to close")
	}
	return stdout, stderr, err
}

// confine has a command and what it starts killed together, and not waited for.
func confine(c *exec.Cmd) {
	c.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return unix.Kill(-c.Process.Pid, unix.SIGKILL) }
	c.WaitDelay = 3 * time.Second // a busy host takes a while to hand over what was printed
}

// judge holds what a process printed and how it ended against the protocol.
func judge(method string, stdout, stderr *capped, failed error) (any, error) {
	var exit *exec.ExitError
	if failed != nil && !errors.As(failed, &exit) {
		return nil, failed
	}
	value, err := decode(stdout.Bytes())
	if err != nil {
		ended := "exit status 0"
		if failed != nil {
			ended = failed.Error()
		}
		return nil, fmt.Errorf("%s, and standard output is not one JSON value (%v)%s", ended, err, printed(stdout, stderr))
	}
	if failed == nil {
		if err := checkShape(method, value); err != nil {
			return nil, fmt.Errorf("the answer is not of the interface's type: %w", err)
		}
		return value, nil
	}
	r := new(refusal)
	if err := json.Unmarshal(stdout.Bytes(), r); err != nil || r.Code == "" || r.Params == nil || r.Backtrace == nil ||
		r.Backtrace.Error == nil || r.Backtrace.Files == nil || r.Backtrace.Lines == nil {
		return nil, fmt.Errorf("%v, and the error lacks a field (code, params, backtrace{error, files, lines})%s", failed, printed(stdout, stderr))
	}
	return nil, r
}

// capped keeps the beginning of what a process prints; SR.ls of 100,000 volumes
// is within it.
type capped struct {
	kept  bytes.Buffer // not embedded: its ReadFrom would be used in Write's place
	total int
}

func (c *capped) Write(p []byte) (int, error) {
	c.total += len(p)
	c.kept.Write(p[:min(len(p), max(0, 128<<20-c.kept.Len()))])
	return len(p), nil
}

func (c *capped) Bytes() []byte { return c.kept.Bytes() }

// printed quotes the first lines of what a process printed, with their size if
// they are not all.
func printed(stdout, stderr *capped) string {
	text := ""
	for _, stream := range []struct {
		name string
		*capped
	}{{"standard output", stdout}, {"standard error", stderr}} {
		if stream.capped == nil || stream.total == 0 {
			continue
		}
		head := stream.Bytes()[:min(stream.kept.Len(), 400)]
		for i, n := 0, 0; i < len(head); i++ {
			if head[i] == '\n' {
				if n++; n == 5 {
					head = head[:i+1]
				}
			}
		}
		if len(head) < stream.total {
			text += fmt.Sprintf("; %s (the first of %d bytes): %q", stream.name, stream.total, head)
		} else {
			text += fmt.Sprintf("; %s: %q", stream.name, head)
		}
	}
	return text
}

// locate finds the executable of a method. Datapath calls go to the plugin that
// the URI's scheme names. A call that the plugin does not offer is errNotOffered.
func (s *script) locate(method string, request []byte) (string, error) {
	path := ""
	if plugin, name, ok := strings.Cut(method, "/"); ok {
		path, method = s.config.datapath(plugin, name), name
	} else if !strings.HasPrefix(method, "Datapath.") && !strings.HasPrefix(method, "Data.") {
		path = filepath.Join(s.config.Volume, method)
	} else {
		var args struct{ URI string }
		json.Unmarshal(request, &args)
		if u, err := url.Parse(args.URI); err == nil && u.Scheme != "" {
			path = s.config.datapath(u.Scheme, method)
		}
		if path == "" { // a URI that is none must still be refused by somebody
			path = s.config.datapath("*", method)
		}
	}
	if path = present(path); path != "" {
		return path, nil
	}
	if !slices.Contains(Interface, method) {
		return "", fmt.Errorf("there is no call %s in the interface, nor in the plugin", method)
	}
	s.calls = append(s.calls, Call{Method: method, Outcome: NotOffered})
	return "", errNotOffered{method}
}

// present finds a file by its path, the name in any case, as the toolstack does.
func present(path string) string {
	if _, err := os.Stat(path); err == nil || path == "" {
		return path
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		if strings.EqualFold(e.Name(), filepath.Base(path)) {
			return filepath.Join(filepath.Dir(path), e.Name())
		}
	}
	return ""
}

// errNotOffered is a call of the interface that the plugin does not have.
type errNotOffered struct{ method string }

func (e errNotOffered) Error() string { return e.method + " is not offered" }

func decode(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("more than one value")
	}
	return v, nil
}

var variable = regexp.MustCompile(`^\$(\w+|\{\w+\})`)

// expand replaces $NAME in JSON: inside a string as text, outside as it is. It
// adds dbg where that is missing.
func (s *script) expand(text string) ([]byte, error) {
	var b strings.Builder
	inString := false
	for i := 0; i < len(text); i++ {
		if name := variable.FindString(text[i:]); name != "" {
			value := s.ts.Getenv(strings.Trim(name[1:], "{}"))
			if value == "" {
				return nil, fmt.Errorf("%s is empty or not set; a $ that stands for itself is \\u0024", name)
			}
			if inString {
				quoted, err := json.Marshal(value)
				if err != nil {
					return nil, err
				}
				value = string(quoted[1 : len(quoted)-1])
			}
			b.WriteString(value)
			i += len(name) - 1
			continue
		}
		switch {
		case text[i] == '\\' && inString && i+1 < len(text):
			b.WriteByte(text[i])
			i++
		case text[i] == '"':
			inString = !inString
		}
		b.WriteByte(text[i])
	}
	out := b.String()
	if trimmed := strings.TrimSpace(out); strings.HasPrefix(trimmed, "{") && !strings.Contains(out, `"dbg"`) {
		comma := ","
		if strings.TrimSpace(trimmed[1:]) == "}" {
			comma = ""
		}
		out = `{"dbg":"scenario"` + comma + trimmed[1:]
	}
	return []byte(out), nil
}

// get sets a variable.
func (s *script) get(_ bool, args []string) error {
	if len(args) != 2 {
		return usage("get")
	}
	v, err := s.field(args[1])
	if err != nil {
		return err
	}
	s.setenv(args[0], encode(v))
	return nil
}

// answer compares a field.
func (s *script) answer(not bool, args []string) error {
	if len(args) != 2 {
		return usage("answer")
	}
	v, err := s.field(args[0])
	if err != nil {
		return err
	}
	if got := encode(v); (got == args[1]) == not {
		return fmt.Errorf("%s is %s, want %s; the whole answer is %s", args[0], got, args[1], encode(s.last))
	}
	return nil
}

var step = regexp.MustCompile(`\.([^.\[\]]+)|\[(\d+)\]|\[#\]`)

// field follows a path into the last answer: .name, [n], [#] for a list's length.
func (s *script) field(path string) (any, error) {
	if s.refusal != nil {
		return nil, s.refusal
	}
	v := s.last
	if path == "." {
		return v, nil
	}
	if rest := step.ReplaceAllString(path, ""); rest != "" && rest != "." {
		return nil, fmt.Errorf("%q is no path", path)
	}
	for _, m := range step.FindAllStringSubmatch(path, -1) {
		switch t := v.(type) {
		case map[string]any:
			next, ok := t[m[1]]
			if !ok {
				return nil, fmt.Errorf("there is no %s in %s", m[0], encode(t))
			}
			v = next
		case []any:
			if m[0] == "[#]" {
				v = json.Number(strconv.Itoa(len(t)))
				continue
			}
			n, err := strconv.Atoi(m[2])
			if err != nil || n >= len(t) {
				return nil, fmt.Errorf("there is no %s in %s", m[0], encode(t))
			}
			v = t[n]
		default:
			return nil, fmt.Errorf("there is no %s in %s", m[0], encode(v))
		}
	}
	return v, nil
}

// refused checks the last refusal.
func (s *script) refused(_ bool, args []string) error {
	if len(args) < 1 {
		return usage("refused")
	}
	if s.refusal == nil {
		return errors.New("the last call was not refused")
	}
	r := s.refusal
	if r.unimplemented() && args[0] != r.Params[0] {
		return errNotOffered{s.calls[len(s.calls)-1].Method} // why it would be refused it does not know
	}
	if _, err := strconv.Atoi(args[0]); err == nil {
		if r.Code != "SR_BACKEND_FAILURE_"+args[0] {
			return fmt.Errorf("the code is %s, want SR_BACKEND_FAILURE_%s; params %q", r.Code, args[0], r.Params)
		}
	} else if r.Code != "SR_BACKEND_FAILURE" || len(r.Params) != 2 || r.Params[0] != args[0] {
		return fmt.Errorf("the error is %s %q, want SR_BACKEND_FAILURE [%q and one more]", r.Code, r.Params, args[0])
	}
	all := strings.Join(r.Params, "\n") + "\n" + *r.Backtrace.Error
	texts := args[1:]
	if len(texts) > 0 && r.Code == "SR_BACKEND_FAILURE" && !strings.Contains(r.Params[1], texts[0]) {
		// The toolstack passes on what is named, and no word of the backtrace.
		return fmt.Errorf("the error names %q, not %q: %s (%s)", r.Params[1], texts[0], args[0], *r.Backtrace.Error)
	}
	for _, text := range texts {
		if !strings.Contains(all, text) {
			return fmt.Errorf("the error does not say %q: %s %q (%s)", text, r.Code, r.Params, *r.Backtrace.Error)
		}
	}
	return nil
}

// encode is a value as a scenario writes it: a string's text, else its JSON.
func encode(v any) string {
	if text, ok := v.(string); ok {
		return text
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func shorten(b []byte) string {
	rest := ""
	if len(b) > 2000 {
		b, rest = b[:2000], "…"
	}
	return strings.ToValidUTF8(string(b), "\ufffd") + rest
}

func newUUID() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
