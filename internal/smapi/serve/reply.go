package serve

import (
	"encoding/json"
	"io"
	"strings"
)

// reply writes the answer of a call; nil is the unit result, null.
func reply(w io.Writer, v any) error { return writeJSON(w, v) }

// fail writes the error of a call. The process must then exit with a status that is not 0.
func fail(w io.Writer, call string, err error) error { return writeJSON(w, FailureOf(call, err)) }

// sanitize makes a text fit for the wire and for one line of a log.
func sanitize(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w) // one write, of what could be encoded: all or nothing to a pipe's reader
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
