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
	"strconv"
	"strings"
	"time"

	"reflinksr/scripts/oldkernel"
)

// callTimeout bounds one call of a plugin.
const callTimeout = 60 * time.Second

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
	before, err := s.fingerprint()
	if err != nil {
		return err
	}
	_, err = s.invoke(args[0], request)
	var refused *refusal
	switch isRefusal := errors.As(err, &refused); {
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

// mustCall calls with arguments given as a value.
func (s *script) mustCall(method string, args map[string]any) (any, error) {
	if _, ok := args["dbg"]; !ok {
		args["dbg"] = "scenario"
	}
	request, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	return s.invoke(method, request)
}

// invoke makes one call as the toolstack does. A refusal is an error that is *refusal.
func (s *script) invoke(method string, request []byte) (any, error) {
	path, err := s.locate(method, request)
	if err != nil {
		return nil, err
	}
	s.last, s.refusal = nil, nil
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, path, "--json")
	if s.oldKernel {
		self, argv, err := oldkernel.Command(path, "--json")
		if err != nil {
			return nil, err
		}
		c = exec.CommandContext(ctx, self)
		c.Args = argv
	}
	c.Stdin = bytes.NewReader(request)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	c.WaitDelay = time.Second
	failed := c.Run()
	what := fmt.Sprintf("%s %s", method, shorten(request))
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: no answer within %v; killed", what, callTimeout)
	}
	var exit *exec.ExitError
	if failed != nil && !errors.As(failed, &exit) {
		return nil, fmt.Errorf("%s: %w", what, failed)
	}
	value, err := decode(stdout.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%s: exit %v, and standard output is not one JSON value (%v): %q, standard error: %q", what, failed, err, shorten(stdout.Bytes()), shorten(stderr.Bytes()))
	}
	if failed == nil {
		if stderr.Len() > 0 {
			return nil, fmt.Errorf("%s: succeeded, but wrote on standard error: %q", what, shorten(stderr.Bytes()))
		}
		if err := checkShape(filepath.Base(path), value); err != nil {
			return nil, fmt.Errorf("%s: the answer is not of the interface's type: %w", what, err)
		}
		s.last = value
		return value, nil
	}
	r := new(refusal)
	if err := json.Unmarshal(stdout.Bytes(), r); err != nil || r.Code == "" || r.Params == nil || r.Backtrace == nil ||
		r.Backtrace.Error == nil || r.Backtrace.Files == nil || r.Backtrace.Lines == nil {
		return nil, fmt.Errorf("%s: exit %v, and the error lacks a field (code, params, backtrace{error, files, lines}): %s", what, failed, shorten(stdout.Bytes()))
	}
	s.refusal = r
	return nil, r
}

// locate finds the executable of a method. Datapath calls go to the plugin that
// the URI's scheme names.
func (s *script) locate(method string, request []byte) (string, error) {
	if plugin, name, ok := strings.Cut(method, "/"); ok {
		return filepath.Join(s.config.Datapath, plugin, name), nil
	}
	if !strings.HasPrefix(method, "Datapath.") {
		return filepath.Join(s.config.Volume, method), nil
	}
	var args struct{ URI string }
	json.Unmarshal(request, &args)
	if u, err := url.Parse(args.URI); err == nil && u.Scheme != "" {
		path := filepath.Join(s.config.Datapath, u.Scheme, method)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	// A URI that is none must still be refused by somebody.
	found, _ := filepath.Glob(filepath.Join(s.config.Datapath, "*", method))
	if len(found) == 0 {
		return "", fmt.Errorf("no datapath plugin below %s offers %s", s.config.Datapath, method)
	}
	return found[0], nil
}

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
	s.ts.Setenv(args[0], encode(v))
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
	if _, err := strconv.Atoi(args[0]); err == nil {
		if r.Code != "SR_BACKEND_FAILURE_"+args[0] {
			return fmt.Errorf("the code is %s, want SR_BACKEND_FAILURE_%s; params %q", r.Code, args[0], r.Params)
		}
	} else if r.Code != "SR_BACKEND_FAILURE" || len(r.Params) != 2 || r.Params[0] != args[0] {
		return fmt.Errorf("the error is %s %q, want SR_BACKEND_FAILURE [%q and one more]", r.Code, r.Params, args[0])
	}
	all := strings.Join(r.Params, "\n") + "\n" + *r.Backtrace.Error
	for _, text := range args[1:] {
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
	if len(b) > 2000 {
		return string(b[:2000]) + "…"
	}
	return string(b)
}

func newUUID() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
