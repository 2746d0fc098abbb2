package main

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"strings"
	"sync/atomic"
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
	rate  float64 // bytes in a second, of late: 0 if nothing is known yet
	then  int64   // what was done when it was shown
}

// busy tells, after a second, that something is being done, and for how long: of what nobody can say how much there is.
// Whoever stops it may print.
func busy(what string) (stop func()) {
	return busyWith(func(passed time.Duration) string {
		return fmt.Sprintf("%s, for %v now", what, passed.Round(time.Second))
	})
}

// busyCounting is busy with volumes, of which moved is told how many are done. It may be told by several at once.
func busyCounting(what string) (moved func(done, total int64), stop func()) {
	var done, total atomic.Int64
	stop = busyWith(func(passed time.Duration) string { return countedLine(what, done.Load(), total.Load(), passed) })
	return func(d, t int64) {
		done.Store(d)
		total.Store(t)
	}, stop
}

// countedLine is what is shown of so many volumes.
func countedLine(what string, done, total int64, passed time.Duration) string {
	text := fmt.Sprintf("%s %d of %d volumes", what, done, total)
	if done > 0 {
		text += fmt.Sprintf(", %.0f/s, %s", math.Ceil(float64(done)/passed.Seconds()), remaining(passed.Seconds()/float64(done)*float64(total-done)))
	}
	return text
}

// busyWith shows a line, after a second, and every second.
func busyWith(line func(passed time.Duration) string) (stop func()) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return func() {}
	}
	ended, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		start, tick := time.Now(), time.NewTicker(time.Second)
		defer tick.Stop()
		for shown := false; ; shown = true {
			select {
			case <-ended:
				if shown {
					fmt.Fprint(os.Stderr, "\r\x1b[K")
				}
				return
			case <-tick.C:
				width, _, err := term.GetSize(int(os.Stderr.Fd()))
				if err != nil || width <= 0 {
					width = 80
				}
				fmt.Fprint(os.Stderr, "\r\x1b[K"+cut(line(time.Since(start)), width-1))
			}
		}
	}()
	return func() {
		close(ended)
		<-gone
	}
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
	p.feel(time.Since(later(p.shown, p.start)))
	p.shown = time.Now()
	width, _, err := term.GetSize(int(p.out.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	fmt.Fprint(p.out, "\r\x1b[K"+p.line(time.Since(p.start), width-1))
}

// memory is for how long what the rate was counts for what it is told to be.
const memory = 5 * time.Second

// feel takes what was moved since it was shown last into the rate: what went fast in the beginning (a cache) says little of what
// is left.
func (p *progress) feel(passed time.Duration) {
	now := float64(p.done-p.then) / max(passed.Seconds(), 0.001)
	if p.rate == 0 {
		p.rate = now
	}
	weight := 1 - math.Exp(-passed.Seconds()/memory.Seconds())
	p.rate += weight * (now - p.rate)
	p.then = p.done
}

// line is what is shown, at most so wide.
func (p *progress) line(passed time.Duration, width int) string {
	speed := cmp.Or(p.rate, float64(p.done)/max(passed.Seconds(), 0.001))
	text := fmt.Sprintf("%s, %s/s", units.Bytes(p.done), units.Bytes(int64(speed)))
	bar := ""
	if p.total > 0 {
		part := min(1, float64(p.done)/float64(p.total))
		text = fmt.Sprintf("%3.0f %% of %s, %s/s", 100*part, units.Bytes(p.total), units.Bytes(int64(speed)))
		if speed > 0 {
			text += ", " + remaining(float64(max(0, p.total-p.done))/speed)
		}
		if room := min(40, width-len(p.what)-len(text)-4); room > 0 {
			full := int(part * float64(room))
			bar = "[" + strings.Repeat("#", full) + strings.Repeat(".", room-full) + "] "
		}
	}
	return cut(p.what+" "+bar+text, max(0, width))
}

// remaining is how long it will take, as far as the rate tells, and no finer than that can be known.
func remaining(seconds float64) string {
	if seconds > 1000*3600 {
		return "more than 1000 hours left"
	}
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d > 2*time.Hour:
		return fmt.Sprintf("%.0f hours left", d.Hours())
	case d > 2*time.Minute:
		return fmt.Sprintf("%.0f min left", d.Minutes())
	}
	return fmt.Sprintf("%.0f s left", math.Ceil(d.Seconds()))
}

// end takes the bar away.
func (p *progress) end() {
	if p.out != nil && !p.shown.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
