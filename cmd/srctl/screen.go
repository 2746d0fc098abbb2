package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// listed prints one table after the other.
type listed struct {
	s       *session
	printed bool
}

func (l *listed) atOnce() bool              { return false }
func (l *listed) changed() <-chan os.Signal { return nil }
func (l *listed) got(os.Signal)             {}
func (l *listed) end(*watching) error       { return nil }

func (l *listed) show(w *watching) error {
	if l.s.json {
		return printJSONLine(l.s.out, w.forPrograms())
	}
	if l.printed {
		fmt.Fprintln(l.s.out)
	}
	l.printed = true
	if err := w.print(l.s.out, 0); err != nil {
		return err
	}
	return l.s.out.failed
}

// screen shows each table in the place of the one before, and gives the terminal back as it was.
type screen struct {
	f      *os.File
	signal chan os.Signal
	there  bool
}

const (
	otherScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l" // without a cursor, and lines end at the edge
	formerOne   = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	toTop       = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

func newScreen(f *os.File) *screen {
	s := &screen{f: f, signal: make(chan os.Signal, 4)}
	signal.Notify(s.signal, unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP)
	return s
}

func (s *screen) atOnce() bool { return true }

// changed tells of another size, and of Ctrl-Z.
func (s *screen) changed() <-chan os.Signal { return s.signal }

// got stops the process where somebody wants that, with the terminal as it was.
func (s *screen) got(sig os.Signal) {
	if sig == unix.SIGTSTP {
		s.leave()
		if unix.Kill(os.Getpid(), unix.SIGSTOP) != nil {
			return
		}
		for sig := range s.signal { // the other threads run for a moment yet
			if sig == unix.SIGCONT {
				return
			}
		}
	}
}

func (s *screen) show(w *watching) error {
	width, height, err := term.GetSize(int(s.f.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	var text bytes.Buffer
	if err := w.print(terminal{&text}, width); err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	if len(lines) > height {
		more := len(lines) - height + 1
		lines = append(slices.Clone(lines[:height-1]), cut(fmt.Sprintf("… and %d lines more", more), width))
	}
	frame := ""
	if !s.there {
		frame, s.there = otherScreen, true
	}
	frame += toTop
	for i, line := range lines {
		if i > 0 {
			frame += "\r\n"
		}
		frame += line + clearLine
	}
	_, err = io.WriteString(s.f, frame+clearBelow)
	return err
}

// end leaves the last table there for whoever wanted so many.
func (s *screen) end(w *watching) error {
	s.leave()
	return w.print(w.s.out, terminalWidth(w.s.out))
}

// leave gives the terminal back.
func (s *screen) leave() {
	if s.there {
		_, _ = io.WriteString(s.f, formerOne)
		s.there = false
	}
}
