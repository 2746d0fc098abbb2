package smapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
)

// Failure is the wire form of an error. All fields are required by the caller.
type Failure struct {
	Code      string    `json:"code"`
	Params    []string  `json:"params"`
	Backtrace Backtrace `json:"backtrace"`
}

// Backtrace carries the letter to the operator; there are no files and lines in it.
type Backtrace struct {
	Error string   `json:"error"`
	Files []string `json:"files"`
	Lines []int    `json:"lines"`
}

// ErrUnimplemented is the class of calls that this plugin does not have.
var ErrUnimplemented = errors.New("unimplemented")

const backendFailure = "SR_BACKEND_FAILURE"

// named are the errors that the interface names: params are the name and the item.
var named = []struct {
	class error
	name  string
}{
	{fault.ErrNotAttached, "Sr_not_attached"},
	{fault.ErrSRNotFound, "SR_does_not_exist"},
	{fault.ErrVolumeNotFound, "Volume_does_not_exist"},
	{fault.ErrElsewhere, "Activated_on_another_host"},
	{ErrUnimplemented, "Unimplemented"},
	{fault.ErrNoExtents, "Unimplemented"},
}

// numbered are the others: numbers and short texts of the table of errors that
// clients of the toolstack know how to show (XE_SR_ERRORCODES.xml).
var numbered = []struct {
	class  error
	number int
	short  string
}{
	{fault.ErrInvalid, 1, "Invalid argument"},
	{fault.ErrSRInUse, 16, "The SR is in use"},
	{fault.ErrInUse, 24, "The VDI is in use"},
	{fault.ErrBusy, 37, "The lock could not be had"},
	{fault.ErrSRExists, 42, "The SR exists already"},
	{fault.ErrNoSpace, 44, "There is insufficient space"},
	{fault.ErrReadOnly, 47, "The SR is not available"},
	{fault.ErrUnavailable, 47, "The SR is not available"},
	{fault.ErrNewer, 47, "The SR is not available"},
	{fault.ErrUnsuitable, 61, "The SR cannot be created here"},
	{fault.ErrDamaged, 65, "The VDI cannot be loaded"},
	{fault.ErrNoData, 66, "Invalid VDI type"},
	{fault.ErrSize, 79, "VDI Invalid size"},
	{fault.ErrNoCBT, 460, "Failed to get changed blocks"},
	{fault.ErrUnrelated, 460, "Failed to get changed blocks"},
	{unix.EIO, 200, "Input/output error"},
}

// generalError is what has no number of its own.
const generalError = 202

// Reply writes the answer of a call; nil is the unit result, null.
func Reply(w io.Writer, v any) error { return writeJSON(w, v) }

// NewFailure turns an error of call into its wire form.
func NewFailure(call string, err error) Failure {
	letter := call + ": " + err.Error()
	if why := filesystem.Refusal(err); why != "" {
		letter += ": " + why
	}
	letter = sanitize(letter)
	f := Failure{Backtrace: Backtrace{Error: letter, Files: []string{}, Lines: []int{}}}
	class := fault.Classify(err)
	if errors.Is(err, ErrUnimplemented) {
		class = ErrUnimplemented
	}
	for _, n := range named {
		if class == n.class {
			f.Code, f.Params = backendFailure, []string{n.name, item(err)}
			if class == fault.ErrNoExtents {
				f.Params[1] = call
			}
			return f
		}
	}
	number, short := generalError, "General backend error"
	for _, n := range numbered {
		if class == n.class || class == nil && n.class == unix.EIO && fault.IsIO(err) {
			number, short = n.number, n.short
			break
		}
	}
	f.Code, f.Params = fmt.Sprintf("%s_%d", backendFailure, number), []string{"", short, letter}
	return f
}

// Fail writes the error of a call. The process must then exit with a status that is not 0.
func Fail(w io.Writer, call string, err error) error { return writeJSON(w, NewFailure(call, err)) }

func item(err error) string {
	var e *fault.Error
	if errors.As(err, &e) {
		return strings.ToValidUTF8(e.Item, "\uFFFD") // as it was given
	}
	return ""
}

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
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes()) // one write: all or nothing to a pipe's reader
	return err
}
