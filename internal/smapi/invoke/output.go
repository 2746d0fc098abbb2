package invoke

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"

	"reflinksr/internal/smapi"
)

// Output is what a process printed, and how it ended.
type Output struct {
	Stdout, Stderr Printed
	Err            error // as of exec.Cmd.Run: nil if it exited with 0, else mostly an *exec.ExitError
	PID            int   // that it had, and its group; 0 if it was never started
	Took           time.Duration
}

// Answer holds the output against the protocol, and returns the one JSON value that was
// answered. An error that the plugin answered is a *smapi.Failure; any other says what the
// toolstack would not understand, or what kept the process from answering.
func (o *Output) Answer() (json.RawMessage, error) {
	var exit *exec.ExitError
	if o.Err != nil && !errors.As(o.Err, &exit) {
		return nil, o.Err
	}
	value, err := one(o.Stdout.Bytes())
	if err != nil {
		ended := "exit status 0"
		if o.Err != nil {
			ended = o.Err.Error()
		}
		return nil, fmt.Errorf("%s, and standard output is not one JSON value (%v)%s", ended, err, o.Quote())
	}
	if o.Err == nil {
		return value, nil
	}
	failure, err := smapi.ParseFailure(value)
	if err != nil {
		return nil, fmt.Errorf("%v, and %w%s", o.Err, err, o.Quote())
	}
	return nil, failure
}

// one is the one JSON value in data.
func one(data []byte) (json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	var value json.RawMessage
	if err := dec.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("more than one value")
	}
	return value, nil
}

// Quote is the first lines of what was printed, to be appended to an error, with the size if
// they are not all.
func (o *Output) Quote() string {
	return quote("standard output", &o.Stdout) + quote("standard error", &o.Stderr)
}

func quote(name string, p *Printed) string {
	if p.total == 0 {
		return ""
	}
	head := p.Bytes()[:min(p.kept.Len(), 400)]
	for i, n := 0, 0; i < len(head); i++ {
		if head[i] == '\n' {
			if n++; n == 5 {
				head = head[:i+1]
			}
		}
	}
	if len(head) < p.total {
		return fmt.Sprintf("; %s (the first of %d bytes): %q", name, p.total, head)
	}
	return fmt.Sprintf("; %s: %q", name, head)
}
