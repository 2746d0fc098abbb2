// Package recording writes down what a toolstack and a plugin say to each other,
// and reads it again: as a draft of a scenario, or as a chart.
//
// A recording is a text file with one JSON object per line and call. It holds all
// of the requests and answers, names of disks included: it is as confidential as
// the toolstack's own log, and is created for its owner only.
//
// A recorder must never be noticed. A call that is recorded has the output, the
// status and the signals of one that is not, and a line that cannot be written is
// lost silently. Do not use it where a lost line matters.
package recording

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"reflinksr/internal/smapi"
)

// Call is one line of a recording.
type Call struct {
	Time        time.Time       `json:"time"` // of the start
	Call        string          `json:"call"` // Volume.snapshot
	Plugin      string          `json:"plugin"`
	Args        []string        `json:"args,omitempty"`    // after the program
	Request     json.RawMessage `json:"request,omitempty"` // as it was, if it was JSON; else
	RequestText string          `json:"request_text,omitempty"`
	Answer      json.RawMessage `json:"answer,omitempty"`
	AnswerText  string          `json:"answer_text,omitempty"`
	Stderr      string          `json:"stderr,omitempty"`
	Status      int             `json:"status"`           // 128+n if a signal ended it
	Signal      string          `json:"signal,omitempty"` // SIGKILL
	Seconds     float64         `json:"seconds"`
	PID         int             `json:"pid"`
	Cut         []string        `json:"cut,omitempty"` // what was too long to be kept whole
}

// longestLine bounds what is written and read.
const longestLine = 4 << 20

// reported bounds how many damaged lines are told one by one.
const reported = 100

// Read reads a recording. Lines that are damaged are reported by their number and
// left out; reading itself may fail as well, which is the last error then.
func Read(r io.Reader) ([]Call, []error) {
	var calls []Call
	var errs []error
	more := 0
	in := bufio.NewReaderSize(r, 64<<10)
	for number := 1; ; number++ {
		line, long, failed := readLine(in)
		c, err := parse(line)
		if long {
			err = fmt.Errorf("it is longer than %d bytes", longestLine)
		}
		switch {
		case err == nil:
			calls = append(calls, c)
		case errors.Is(err, errEmpty):
		case len(errs) < reported:
			errs = append(errs, fmt.Errorf("line %d is damaged and left out: %w", number, err))
		default:
			more++
		}
		if failed == nil {
			continue
		}
		if more > 0 {
			errs = append(errs, fmt.Errorf("%d more lines are damaged and left out", more))
		}
		if failed != io.EOF {
			errs = append(errs, failed)
		}
		return calls, errs
	}
}

// readLine reads to the end of a line, and keeps no more of it than may be.
func readLine(in *bufio.Reader) (line []byte, long bool, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > longestLine {
			line, long = nil, true
		}
		if !long {
			line = append(line, part...)
		}
		if err != bufio.ErrBufferFull {
			return line, long, err
		}
	}
}

var errEmpty = errors.New("empty")

func parse(line []byte) (Call, error) {
	var c Call
	if len(bytes.TrimSpace(line)) == 0 {
		return c, errEmpty
	}
	if err := json.Unmarshal(line, &c); err != nil {
		return c, err
	}
	if c.Call == "" || c.Time.IsZero() {
		return c, errors.New("it has no call or no time")
	}
	return c, nil
}

// Duration is how long the call took; a foreign recording may claim anything.
func (c Call) Duration() time.Duration {
	return time.Duration(min(max(c.Seconds, 0), 1e6) * float64(time.Second))
}

func (c Call) end() time.Time { return c.Time.Add(c.Duration()) }

// refusal is what the plugin refused the call with, or nil. It may lack a field: it is recorded,
// not judged.
func (c Call) refusal() *smapi.Failure {
	r := new(smapi.Failure)
	if c.Status == 0 || json.Unmarshal(c.Answer, r) != nil || r.Code == "" {
		return nil
	}
	return r
}

// member is one of an object, whose order is kept.
type member struct {
	name  string
	value json.RawMessage
}

// members takes an object apart; ok is false if it is none.
func members(raw json.RawMessage) (list []member, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, false
		}
		m := member{}
		if m.name, ok = name.(string); !ok || dec.Decode(&m.value) != nil {
			return nil, false
		}
		list = append(list, m)
	}
	return list, true
}

// text is the string that raw is.
func text(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}
