// Package syslog writes the log of the programs that the toolstack starts to where its other storage code does.
package syslog

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Handler is a slog.Handler that sends one datagram per record to /dev/log, with
// the facility of the toolstack's other storage code. It never waits, never
// fails and writes nowhere else: standard error stays empty on success.
// (log/syslog would link package net.)
type Handler struct {
	Program string
	attrs   string
}

const (
	local2   = 18 << 3 // facility, syslog(3)
	logLimit = 4 << 10 // bytes; a datagram has its limits
)

// Enabled says that what is for programmers is left out.
func (Handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle sends a record.
func (h Handler) Handle(_ context.Context, r slog.Record) error {
	severity := 6 // info
	switch {
	case r.Level >= slog.LevelError:
		severity = 3
	case r.Level >= slog.LevelWarn:
		severity = 4
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<%d>%s %s[%d]: %s%s", local2|severity, r.Time.Format(time.Stamp), h.Program, os.Getpid(), r.Message, h.attrs)
	r.Attrs(func(a slog.Attr) bool { b.WriteString(formatAttr(a)); return true })
	send(b.String())
	return nil
}

// WithAttrs has every record tell these as well.
func (h Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		h.attrs += formatAttr(a)
	}
	return h
}

// WithGroup changes nothing: there are no groups.
func (h Handler) WithGroup(string) slog.Handler { return h }

// formatAttr quotes every foreign string: a name may hold line breaks.
func formatAttr(a slog.Attr) string {
	if a.Value.Kind() == slog.KindDuration {
		return fmt.Sprintf(" %s=%.1fms", a.Key, float64(a.Value.Duration().Microseconds())/1000)
	}
	return fmt.Sprintf(" %s=%.1000q", a.Key, a.Value.String())
}

func send(message string) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	message = message[:min(len(message), logLimit)]
	unix.Sendto(fd, []byte(message), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: "/dev/log"})
}
