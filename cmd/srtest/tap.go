package main

import (
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"reflinksr/scripts"
)

// tap prints results as TAP, one test point per scenario.
type tap struct {
	out            io.Writer
	verbose        bool
	points, failed int
	skipped        int
}

func newTAP(out io.Writer, verbose bool) *tap {
	fmt.Fprintln(out, "TAP version 14")
	return &tap{out: out, verbose: verbose}
}

// run runs scenarios one after the other.
func (t *tap) run(prefix string, c scripts.Config, files []string) {
	scripts.Run(&scenario{tap: t, name: prefix}, c, files)
}

func (t *tap) finish() error {
	fmt.Fprintf(t.out, "1..%d\n# %d passed, %d failed, %d skipped\n", t.points, t.points-t.failed-t.skipped, t.failed, t.skipped)
	if t.failed > 0 {
		return errFailed
	}
	return nil
}

// scenario is the testscript.T of one scenario, or of all of a kind.
type scenario struct {
	tap     *tap
	name    string
	log     strings.Builder
	failed  bool
	skipped bool
	why     string
}

func (s *scenario) Run(name string, do func(testscript.T)) {
	sub := &scenario{tap: s.tap, name: s.name + "/" + name}
	done := make(chan struct{})
	go func() { // Fatal and Skip end the goroutine
		defer close(done)
		do(sub)
	}()
	<-done
	t := s.tap
	t.points++
	switch {
	case sub.failed:
		t.failed++
		fmt.Fprintf(t.out, "not ok %d - %s\n", t.points, sub.name)
	case sub.skipped:
		t.skipped++
		fmt.Fprintf(t.out, "ok %d - %s # SKIP %s\n", t.points, sub.name, sub.why)
	default:
		fmt.Fprintf(t.out, "ok %d - %s\n", t.points, sub.name)
	}
	if text := strings.TrimSpace(sub.log.String()); text != "" && (sub.failed || t.verbose) {
		for line := range strings.Lines(text) {
			fmt.Fprintf(t.out, "# %s\n", strings.TrimRight(line, "\n"))
		}
	}
}

func (s *scenario) Skip(args ...any) {
	s.skipped, s.why = true, strings.TrimSpace(fmt.Sprint(args...))
	runtime.Goexit()
}

func (s *scenario) Fatal(args ...any) {
	s.Log(args...)
	s.FailNow()
}

func (s *scenario) FailNow() {
	s.failed = true
	runtime.Goexit()
}

func (s *scenario) Log(args ...any) { fmt.Fprintln(&s.log, args...) }
func (s *scenario) Parallel()       {}
func (s *scenario) Verbose() bool   { return s.tap.verbose }
