package scripts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// Outcome is what one call came to.
type Outcome string

const (
	Works      Outcome = "works"       // it succeeded, with an answer of the interface's type
	Refuses    Outcome = "refuses"     // it failed with a well-formed error
	NotOffered Outcome = "not offered" // there is no such executable, or it answers Unimplemented
	Wrong      Outcome = "wrong"       // what it printed or how it ended is against the protocol
)

// Call is one call that a scenario made.
type Call struct {
	Method  string  `json:"method"`
	Request string  `json:"request"`
	Answer  string  `json:"answer"` // standard output
	Outcome Outcome `json:"outcome"`
	Seconds float64 `json:"seconds"`
}

// Verdict is what became of a scenario.
type Verdict string

// What can become of a scenario. A skipped one says why.
const (
	Passed  Verdict = "passed"
	Failed  Verdict = "failed"
	Skipped Verdict = "skipped"
)

// Failure says where a scenario failed and why.
type Failure struct {
	File    string `json:"file"`
	Line    int    `json:"line"` // from 1; 0 if it failed before its first line
	Command string `json:"command"`
	Phase   string `json:"phase"` // the comment over the phase
	Error   string `json:"error"`
	Last    *Call  `json:"last_call,omitempty"` // the last call before it
	// Blamed is the last call if that was refused or broke the protocol, else the call
	// that the scenario last made by name (call, volume, plug, unplug).
	Blamed string `json:"blamed,omitempty"`
}

// Result is what became of one scenario on one kind of filesystem.
type Result struct {
	Name    string   `json:"name"`
	FS      string   `json:"fs"`
	Verdict Verdict  `json:"verdict"`
	Why     string   `json:"why,omitempty"` // it was skipped
	Failure *Failure `json:"failure,omitempty"`
	Seconds float64  `json:"seconds"`
	Calls   []Call   `json:"-"`
	Proved  []string `json:"-"` // calls after which contents were seen to be right
	Log     string   `json:"-"`
}

var errInterrupted = errors.New("interrupted")

// Run runs the scenarios in files as subtests of t, in parallel as far as t does.
func Run(t testscript.T, c Config, files []string) {
	testscript.RunT(&watched{T: t, config: c, files: files}, c.params(files))
}

// watched sees what becomes of a scenario: it stands between testscript and the T
// that runs it.
type watched struct {
	testscript.T
	config  Config
	files   []string
	script  *script // once it is set up
	result  Result
	start   time.Time
	stopped error         // why it had to end
	over    chan struct{} // closed when it has ended
}

func (w *watched) Run(name string, do func(testscript.T)) {
	w.T.Run(name, func(t testscript.T) {
		sub := &watched{T: t, config: w.config, files: w.files, start: time.Now(), over: make(chan struct{})}
		sub.result = Result{Name: name, FS: w.config.FS, Verdict: Passed}
		defer sub.done()
		do(sub)
	})
}

func (w *watched) Parallel() {
	w.T.Parallel()
	w.start = time.Now() // not while it waited for its turn
	if w.config.began != nil {
		w.config.began(w.config.FS + "/" + w.result.Name)
	}
}

// done tells of the result.
func (w *watched) done() {
	close(w.over)
	w.result.Seconds = time.Since(w.start).Seconds()
	if w.script != nil {
		w.result.Calls, w.result.Proved = w.script.calls, w.script.proofs()
	}
	if w.config.Done != nil {
		w.config.Done(w.result)
	}
}

func (w *watched) Skip(args ...any) {
	w.result.Verdict, w.result.Why = Skipped, strings.TrimSpace(fmt.Sprint(args...))
	w.hunt()
	w.T.Skip(args...)
}

// hunt ends what a scenario that stops in the middle has running.
func (w *watched) hunt() {
	if w.script != nil {
		go w.script.hunt(w.over)
	}
}

func (w *watched) Fatal(args ...any) {
	w.Log(args...)
	w.FailNow()
}

func (w *watched) FailNow() {
	w.result.Verdict = Failed
	if w.config.stopped() != nil { // of them all: this one is not to blame
		w.result.Verdict, w.result.Why = Skipped, w.config.stopped().Error()
	}
	w.hunt()
	w.T.FailNow()
}

// Log gets testscript's whole log when a scenario ends. That of a failed one is
// put in order: where, what, the last call, then the log of the phase.
func (w *watched) Log(args ...any) {
	log := strings.TrimSpace(fmt.Sprint(args...))
	w.result.Log = log
	if w.result.Verdict == Failed && w.result.Failure == nil {
		w.result.Failure = w.failure(log)
		log = w.result.Failure.String() + "\n\n" + log
	}
	if log != "" {
		w.T.Log(log)
	}
}

var failLine = regexp.MustCompile(`(?ms)^FAIL: ([^\n]+?):(\d+): (.*)`)

// failure reads testscript's log.
func (w *watched) failure(log string) *Failure {
	f := &Failure{Error: log}
	if m := failLine.FindStringSubmatch(log); m != nil {
		f.File, f.Error = m[1], strings.TrimSpace(m[3])
		f.Line, _ = strconv.Atoi(m[2])
	}
	for _, file := range w.files {
		if strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)) == w.result.Name {
			f.File = file
		}
	}
	if data, err := os.ReadFile(f.File); err == nil {
		f.Command, f.Phase = place(string(data), f.Line)
	}
	if w.stopped != nil && !strings.Contains(f.Error, w.stopped.Error()) {
		f.Error = fmt.Sprintf("%v (%s)", w.stopped, f.Error)
	}
	if s := w.script; s != nil && len(s.calls) > 0 {
		last := s.calls[len(s.calls)-1]
		f.Last = &last
		f.Blamed = last.Method
		if last.Outcome == Works && s.named > 0 {
			f.Blamed = s.calls[s.named-1].Method
		}
	}
	return f
}

// place finds a line of a scenario and the comment over its phase.
func place(text string, line int) (command, phase string) {
	lines := strings.Split(text, "\n")
	if line < 1 || line > len(lines) {
		return "", ""
	}
	var comment []string
	for i := line - 1; i >= 0; i-- {
		if strings.HasPrefix(lines[i], "#") {
			comment = append([]string{strings.TrimSpace(lines[i][1:])}, comment...)
		} else if len(comment) > 0 {
			break
		}
	}
	return lines[line-1], strings.Join(comment, " ")
}

// String is the failure as a tester reads it.
func (f *Failure) String() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "%s:%d: %s\n", filepath.Base(f.File), f.Line, strings.TrimSpace(f.Command))
	}
	if f.Phase != "" {
		fmt.Fprintf(&b, "should hold: %s\n", f.Phase)
	}
	fmt.Fprintf(&b, "but: %s", f.Error)
	if f.Last != nil {
		fmt.Fprintf(&b, "\nlast call: %s, which %s after %.3f s\n  request: %s\n  answer:  %s", f.Last.Method,
			map[Outcome]string{Works: "succeeded", Refuses: "was refused", NotOffered: "is not offered", Wrong: "broke the protocol"}[f.Last.Outcome],
			f.Last.Seconds, shorten([]byte(f.Last.Request)), shorten([]byte(strings.TrimSpace(f.Last.Answer))))
	}
	return b.String()
}
