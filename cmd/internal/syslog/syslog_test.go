package syslog

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// Whatever a caller calls things, a record of the log is one line, and shows no
// control character.
func FuzzLog(f *testing.F) {
	f.Add("k\n<0>forged", int64(time.Second))
	f.Add("\x1b[2J\u2028\u202e\xff\u0085", int64(-1))
	f.Fuzz(func(t *testing.T, text string, n int64) {
		for _, a := range []slog.Attr{
			slog.String("key", text), slog.Any("err", errors.New(text)), slog.Any("names", []string{text}), slog.Duration("took", time.Duration(n)), slog.Int64("n", n),
		} {
			line := formatAttr(a)
			if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(line) || !strings.HasPrefix(line, " "+a.Key+"=") {
				t.Errorf("%q is logged as %q", text, line)
			}
		}
	})
}
