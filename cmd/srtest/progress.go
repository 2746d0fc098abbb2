package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"reflinksr/scripts"
)

// progress is a line at the bottom of a terminal that says how far a run is.
// Elsewhere it is silent.
type progress struct {
	out   io.Writer
	shown bool
}

func newProgress(out io.Writer) *progress {
	if f, ok := out.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		out = nil
	}
	return &progress{out: out}
}

func (p *progress) show(sum tally, total int, last scripts.Result) {
	if p.out == nil {
		return
	}
	fmt.Fprintf(p.out, "\r\x1b[K%d of %d: %d passed, %d failed, %d skipped; last %s/%s", sum.passed+sum.failed+sum.skipped, total, sum.passed, sum.failed, sum.skipped, last.FS, last.Name)
	p.shown = true
}

func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.shown = false
	}
}
