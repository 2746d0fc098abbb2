package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"reflinksr/internal/units"
)

// progress is a bar at the bottom of a terminal. Elsewhere it is silent. It counts what is
// moved: of what need not be read or written, as holes, nobody has to wait for.
type progress struct {
	out   *os.File // nil: no terminal
	what  string
	total int64 // bytes, 0 if nobody knows
	done  int64
	start time.Time
	shown time.Time
}

// newProgress shows on standard error, which is the terminal's also where standard
// output is a stream.
func newProgress(what string, total int64) *progress {
	p := &progress{what: what, total: total, start: time.Now()}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		p.out = os.Stderr
	}
	return p
}

// add tells that so many bytes more were moved.
func (p *progress) add(n int64) { p.reach(p.done + n) }

// reach tells how many bytes have been moved until now.
func (p *progress) reach(done int64) {
	p.done = done
	if p.out == nil || time.Since(p.shown) < 200*time.Millisecond {
		return
	}
	p.shown = time.Now()
	width, _, err := term.GetSize(int(p.out.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	fmt.Fprint(p.out, "\r\x1b[K"+p.line(time.Since(p.start), width-1))
}

// line is what is shown, at most so wide.
func (p *progress) line(passed time.Duration, width int) string {
	speed := float64(p.done) / max(passed.Seconds(), 0.001)
	text := fmt.Sprintf("%s, %s/s", units.Bytes(p.done), units.Bytes(int64(speed)))
	bar := ""
	if p.total > 0 {
		part := min(1, float64(p.done)/float64(p.total))
		text = fmt.Sprintf("%3.0f %% of %s, %s/s", 100*part, units.Bytes(p.total), units.Bytes(int64(speed)))
		if speed > 0 {
			text += ", " + (time.Duration(float64(p.total-p.done)/speed) * time.Second).String() + " left"
		}
		if room := min(40, width-len(p.what)-len(text)-4); room > 0 {
			full := int(part * float64(room))
			bar = "[" + strings.Repeat("#", full) + strings.Repeat(".", room-full) + "] "
		}
	}
	line := p.what + " " + bar + text
	return line[:max(0, min(len(line), width))]
}

// end takes the bar away.
func (p *progress) end() {
	if p.out != nil && !p.shown.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
