package scripts

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/smapi"
	"reflinksr/internal/smapi/invoke"
	"reflinksr/scripts/owned"
)

// isUnimplemented says that the call is not offered.
func isUnimplemented(r *smapi.Failure) bool {
	return r.Code == smapi.BackendFailure && r.IsNamed(smapi.Unimplemented)
}

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
	var refused *smapi.Failure
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

// mustCall makes the call of a request, for a verb that needs it.
func (s *script) mustCall(r smapi.Request) (any, error) {
	request, err := invoke.Request("scenario", r)
	if err != nil {
		return nil, err
	}
	value, err := s.invoke(r.Call(), request)
	var refused *smapi.Failure
	if errors.As(err, &refused) && isUnimplemented(refused) {
		return nil, errNotOffered{r.Call()}
	}
	return value, err
}

// ask is mustCall with the answer as the interface's type.
func ask[Result any](s *script, r smapi.Asks[Result]) (Result, error) {
	v, err := s.mustCall(r)
	if err != nil {
		var none Result
		return none, err
	}
	return as[Result](v)
}

// as is an answer, which is of the type, as a value of that type.
func as[T any](v any) (is T, err error) {
	data, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(data, &is)
	}
	return is, err
}

// invoke makes one call as the toolstack does. A refusal is an error that is *smapi.Failure.
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
	out := s.fork(path, request)
	made.Seconds = out.Took.Seconds()
	made.Answer = shorten(out.Stdout.Bytes())
	value, err := judge(filepath.Base(path), out)
	var refused *smapi.Failure
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
		if isUnimplemented(refused) {
			made.Outcome = NotOffered
		}
	default:
		made.Outcome = Wrong
		err = fmt.Errorf("%s %s: %w", method, shorten(request), err)
	}
	return value, err
}

// keep bounds what is kept of what a process prints, in bytes; SR.ls of 100,000 volumes is
// within it.
const keep = 128 << 20

// fork runs one process of a plugin, at most for as long as a call may take. What
// it leaves running is killed: the toolstack would wait for it.
func (s *script) fork(path string, request []byte) *invoke.Output {
	ctx, cancel := context.WithTimeout(s.config.context(), s.config.timeout())
	defer cancel()
	c := invoke.Command{Path: path, Request: request, Keep: keep}
	if s.sandbox.Unusual() {
		c.Wrap = s.sandbox.Command
	}
	out := c.Run(ctx)
	switch {
	case s.config.stopped() != nil:
		out.Err = s.config.stopped()
	case ctx.Err() != nil:
		out.Err = fmt.Errorf("no answer within %v; killed%s", s.config.timeout(), out.Quote())
	case errors.Is(out.Err, exec.ErrWaitDelay):
		group := owned.InGroup(out.PID)
		for _, pid := range owned.Processes(group) {
			owned.Signal(pid, unix.SIGKILL, group)
		}
		out.Err = errors.New("it exited, but a process that it started keeps standard output or standard error open: the toolstack waits for both to close")
	}
	return out
}

// judge holds what a process printed and how it ended against the protocol.
func judge(method string, out *invoke.Output) (any, error) {
	answer, err := out.Answer()
	if err != nil {
		return nil, err
	}
	value, err := decode(answer)
	if err != nil {
		return nil, err
	}
	if err := checkShape(method, value); err != nil {
		return nil, fmt.Errorf("the answer is not of the interface's type: %w", err)
	}
	return value, nil
}

// locate finds the executable of a method. Datapath calls go to the plugin that
// the URI's scheme names. A call that the plugin does not offer is errNotOffered.
func (s *script) locate(method string, request []byte) (string, error) {
	path := ""
	if plugin, name, ok := strings.Cut(method, "/"); ok {
		path, method = s.config.datapath(plugin, name), name
	} else if smapi.PluginsOf(method) != smapi.InDatapath {
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
	if !inInterface(method) {
		return "", fmt.Errorf("there is no call %s in the interface, nor in the plugin", method)
	}
	s.calls = append(s.calls, Call{Method: method, Outcome: NotOffered})
	return "", errNotOffered{method}
}

// inInterface says whether the interface has a call of that very name.
func inInterface(method string) bool {
	c := smapi.Find(method)
	return c != nil && c.Call() == method
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

// decode reads one JSON value. Numbers stay as they are written.
func decode(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	err := dec.Decode(&v)
	return v, err
}

var variable = regexp.MustCompile(`^\$(\w+|\{\w+\})`)

// expand replaces $NAME in JSON: inside a string as text, outside as it is. It
// adds dbg where that is missing.
func (s *script) expand(text string) ([]byte, error) {
	out, err := replaceIn(text, func(name string, inString bool) (string, error) {
		value := s.ts.Getenv(name)
		if value == "" {
			return "", fmt.Errorf("$%s is empty or not set; a $ that stands for itself is \\u0024", name)
		}
		if inString {
			quoted, err := json.Marshal(value)
			if err != nil {
				return "", err
			}
			value = string(quoted[1 : len(quoted)-1])
		}
		return value, nil
	})
	if err != nil {
		return nil, err
	}
	if trimmed := strings.TrimSpace(out); strings.HasPrefix(trimmed, "{") && !strings.Contains(out, `"dbg"`) {
		comma := ","
		if strings.TrimSpace(trimmed[1:]) == "}" {
			comma = ""
		}
		out = `{"dbg":"scenario"` + comma + trimmed[1:]
	}
	return []byte(out), nil
}

// replaceIn replaces each $NAME and ${NAME} in JSON by what value makes of it.
func replaceIn(text string, value func(name string, inString bool) (string, error)) (string, error) {
	var b strings.Builder
	inString := false
	for i := 0; i < len(text); i++ {
		if name := variable.FindString(text[i:]); name != "" {
			v, err := value(strings.Trim(name[1:], "{}"), inString)
			if err != nil {
				return "", err
			}
			b.WriteString(v)
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
	return b.String(), nil
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
	if isUnimplemented(r) && args[0] != r.Params[0] {
		return errNotOffered{s.calls[len(s.calls)-1].Method} // why it would be refused it does not know
	}
	if _, err := strconv.Atoi(args[0]); err == nil {
		if r.Code != smapi.BackendFailure+"_"+args[0] {
			return fmt.Errorf("the code is %s, want SR_BACKEND_FAILURE_%s; params %q", r.Code, args[0], r.Params)
		}
	} else if r.Code != smapi.BackendFailure || len(r.Params) != 2 || r.Params[0] != args[0] {
		return fmt.Errorf("the error is %s %q, want SR_BACKEND_FAILURE [%q and one more]", r.Code, r.Params, args[0])
	}
	all := strings.Join(r.Params, "\n") + "\n" + r.Backtrace.Error
	texts := args[1:]
	if len(texts) > 0 && r.Code == smapi.BackendFailure && !strings.Contains(r.Params[1], texts[0]) {
		// The toolstack passes on what is named, and no word of the backtrace.
		return fmt.Errorf("the error names %q, not %q: %s (%s)", r.Params[1], texts[0], args[0], r.Backtrace.Error)
	}
	for _, text := range texts {
		if !strings.Contains(all, text) {
			return fmt.Errorf("the error does not say %q: %s %q (%s)", text, r.Code, r.Params, r.Backtrace.Error)
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
