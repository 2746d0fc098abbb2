package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/overwrite"
	"reflinksr/internal/repository"
	"reflinksr/internal/units"
)

// output is standard output, and remembers that nothing can be written to it: most of what
// is printed is printed without looking.
type output struct {
	io.Writer
	failed error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if err != nil {
		o.failed = err
	}
	return n, err
}

// terminal takes from what is printed all that could control a terminal: some of it
// was read in the SR, and may be anybody's.
type terminal struct{ io.Writer }

func (t terminal) Write(p []byte) (int, error) {
	printable := bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, p)
	if _, err := t.Writer.Write(printable); err != nil {
		return 0, err
	}
	return len(p), nil
}

// bare is what text is written to in the end.
func bare(out io.Writer) io.Writer {
	if o, ok := out.(*output); ok {
		out = o.Writer
	}
	if t, ok := out.(terminal); ok {
		out = t.Writer
	}
	return out
}

// terminalWidth is how many characters a line of the terminal has: 0 of what is none.
func terminalWidth(out io.Writer) int {
	if f, ok := bare(out).(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 0
}

// bytes writes a size for people, or exactly if that is asked for.
func (s *session) bytes(n int64) string {
	if s.exact {
		return strconv.FormatInt(n, 10)
	}
	return units.Bytes(n)
}

// messages is for what is said to people where standard output is taken by data.
var messages io.Writer = terminal{os.Stderr}

// stream is standard output where it takes data, which are not text, from the beginning to
// the end.
type stream struct {
	io.Writer
	file  *os.File // standard output, if it is a regular file; else nil
	holes bool     // that has nothing behind its position, so that what is left out is zeros
	at    int64    // its position
}

// openStdout makes a stream of what run was given for standard output.
func openStdout(out io.Writer) (*stream, error) {
	out = bare(out)
	s := &stream{Writer: out}
	f, ok := out.(*os.File)
	if !ok {
		return s, nil
	}
	if term.IsTerminal(int(f.Fd())) {
		return nil, errors.New("a disk or a stream is nothing for a terminal: give a file, or a pipe to another program")
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return s, err
	}
	if name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd()))); err != nil {
		return nil, err
	} else if err := overwrite.MayWriteFile(name); err != nil {
		return nil, err
	} else if err := overwrite.FileOfNoDevice(name); err != nil { // whoever gave it to us has it open as well
		return nil, err
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return nil, err
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, err
	}
	s.file, s.at, s.holes = f, at, flags&unix.O_APPEND == 0 && at >= st.Size()
	return s, nil
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	s.at += int64(n)
	return n, err
}

var noughts [delta.MaxData]byte

// Zeros writes so many zeros.
func (s *stream) Zeros(n int64) (err error) {
	if s.holes {
		s.at, err = s.file.Seek(n, io.SeekCurrent)
		return err
	}
	for n > 0 && err == nil {
		piece := min(n, int64(len(noughts)))
		_, err = s.Write(noughts[:piece])
		n -= piece
	}
	return err
}

// End makes all of it durable where it is a file.
func (s *stream) End() error {
	if s.file == nil {
		return nil
	}
	if s.holes {
		if err := s.file.Truncate(s.at); err != nil {
			return err
		}
	}
	return s.file.Sync()
}

// written is what was written where, for programs.
type written struct {
	Path    string         `json:"path"`
	Key     repository.Key `json:"key"`
	Bytes   int64          `json:"bytes"`
	Seconds float64        `json:"seconds"`
}

// mayAnswer refuses to answer in JSON where the data go.
func (s *session) mayAnswer(path string) error {
	if s.json && path == "-" {
		return misused("--json cannot answer on standard output, which takes the data")
	}
	return nil
}

// wrote tells what was written.
func (s *session) wrote(path string, w written) error {
	if s.json {
		return printJSON(s.out, w)
	}
	return said(s.out, path, "%s in %v", s.bytes(w.Bytes), time.Duration(w.Seconds*float64(time.Second)).Round(time.Millisecond))
}

// tell prints a sentence, in lines that the terminal has room for.
func (s *session) tell(format string, args ...any) error {
	return indented(s.out, fmt.Sprintf(format, args...), 0, terminalWidth(s.out))
}

// said tells what was written, where that is not taken for a part of it.
func said(out io.Writer, path, format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	if path == "-" {
		fmt.Fprintf(messages, "standard output: %s\n", line) // the data has come through, whoever hears of it
		return nil
	}
	_, err := fmt.Fprintf(out, "%s: %s\n", path, line)
	return err
}

// printJSON prints a value for programs. What could control a terminal is escaped, so that it comes through as it is.
func printJSON(out io.Writer, v any) error {
	return printIndented(out, v, "  ")
}

// printJSONLine prints it in one line.
func printJSONLine(out io.Writer, v any) error { return printIndented(out, v, "") }

func printIndented(out io.Writer, v any, indent string) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return err
	}
	escaped := make([]byte, 0, text.Len())
	for _, r := range text.String() {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			escaped = utf8.AppendRune(escaped, r)
		default: // in a string, as all else is printable
			for _, unit := range utf16.AppendRune(nil, r) {
				escaped = fmt.Appendf(escaped, `\u%04x`, unit)
			}
		}
	}
	_, err := out.Write(escaped)
	return err
}

// oneLine makes a foreign text safe for a terminal.
func oneLine(s string) string {
	if q := fmt.Sprintf("%q", s); q != `"`+s+`"` {
		return q
	}
	return s
}
