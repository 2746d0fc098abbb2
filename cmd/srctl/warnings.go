package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// warnings writes what is logged on the way as sentences for who sits there.
type warnings struct {
	out   io.Writer
	about []slog.Attr
}

// Enabled leaves out what is for who looks into a log.
func (w warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle prints a sentence, and in brackets what it is about.
func (w warnings) Handle(_ context.Context, r slog.Record) error {
	var about []string
	tell := func(a slog.Attr) bool {
		about = append(about, a.Key+" "+oneLine(a.Value.String()))
		return true
	}
	for _, a := range w.about {
		tell(a)
	}
	r.Attrs(tell)
	line := strings.ToLower(r.Level.String()) + ": " + printable(r.Message)
	if r.Level == slog.LevelWarn {
		line = "warning: " + printable(r.Message)
	}
	if len(about) > 0 {
		line += " (" + strings.Join(about, ", ") + ")"
	}
	if width := terminalWidth(w.out); width > 0 {
		return indented(w.out, line, 0, width)
	}
	_, err := fmt.Fprintln(w.out, line)
	return err
}

// WithAttrs adds to what all sentences are about.
func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.out, append(w.about[:len(w.about):len(w.about)], attrs...)}
}

// WithGroup changes nothing: a sentence has no parts.
func (w warnings) WithGroup(string) slog.Handler { return w }
