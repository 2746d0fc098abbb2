package smapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// BackendFailure is the code of errors that the interface names. That of all others is this, "_"
// and a number.
const BackendFailure = "SR_BACKEND_FAILURE"

// The names of errors: the first of their two parameters. The second is what it is about.
const (
	SRNotAttached          = "Sr_not_attached"
	SRDoesNotExist         = "SR_does_not_exist"
	VolumeDoesNotExist     = "Volume_does_not_exist"
	ActivatedOnAnotherHost = "Activated_on_another_host"
	Unimplemented          = "Unimplemented"
	Cancelled              = "Cancelled"
)

// NamedErrors are those that the interface names, and what the second parameter is.
var NamedErrors = []struct{ Name, About string }{
	{SRNotAttached, "the SR"},
	{SRDoesNotExist, "the SR"},
	{VolumeDoesNotExist, "the key"},
	{ActivatedOnAnotherHost, "the UUID of that host: the toolstack makes the call there"},
	{Unimplemented, "the call"},
	{Cancelled, "the task"},
}

// Number is that of an error of which clients of the toolstack know how to show the short
// text: its parameters are "", the text, and what happened (XE_SR_ERRORCODES.xml).
type Number int

// The numbers that are used here.
const (
	InvalidArgument Number = 1
	SRBusy          Number = 16
	VDIInUse        Number = 24
	LockNotHad      Number = 37
	SRExists        Number = 42
	NoSpace         Number = 44
	SRUnavailable   Number = 47
	SRNotCreatable  Number = 61
	VDINotLoadable  Number = 65
	InvalidVDIType  Number = 66
	InvalidSize     Number = 79
	InputOutput     Number = 200
	General         Number = 202 // what has no number of its own
	NoChangedBlocks Number = 460
)

// NumberedErrors are the short texts of the numbers.
var NumberedErrors = []struct {
	Number Number
	Short  string
}{
	{InvalidArgument, "Invalid argument"},
	{SRBusy, "The SR is in use"},
	{VDIInUse, "The VDI is in use"},
	{LockNotHad, "The lock could not be had"},
	{SRExists, "The SR exists already"},
	{NoSpace, "There is insufficient space"},
	{SRUnavailable, "The SR is not available"},
	{SRNotCreatable, "The SR cannot be made or used here"},
	{VDINotLoadable, "The VDI cannot be loaded"},
	{InvalidVDIType, "Invalid VDI type"},
	{InvalidSize, "VDI Invalid size"},
	{InputOutput, "Input/output error"},
	{General, "General backend error"},
	{NoChangedBlocks, "Failed to get changed blocks"},
}

// Short is the short text of a number that is used here; "" of any other.
func (n Number) Short() string {
	for _, e := range NumberedErrors {
		if e.Number == n {
			return e.Short
		}
	}
	return ""
}

// Failure is an error as a plugin answers it. All fields are required.
type Failure struct {
	Code      string    `json:"code"`
	Params    []string  `json:"params"`
	Backtrace Backtrace `json:"backtrace"`
}

// Backtrace is where an error came from, for the toolstack's log.
type Backtrace struct {
	Error string   `json:"error"`
	Files []string `json:"files"`
	Lines []int    `json:"lines"`
}

// Named is the error of that name, about something.
func Named(name, about, letter string) Failure {
	return Failure{BackendFailure, []string{name, about}, Backtrace{letter, []string{}, []int{}}}
}

// Numbered is the error with that number.
func Numbered(n Number, letter string) Failure {
	return Failure{BackendFailure + "_" + strconv.Itoa(int(n)), []string{"", n.Short(), letter}, Backtrace{letter, []string{}, []int{}}}
}

func (f *Failure) Error() string { return fmt.Sprintf("refused: %s %q", f.Code, f.Params) }

// IsNamed says whether it is the error of that name, or with that number in decimal.
func (f *Failure) IsNamed(name string) bool {
	return f.Code == BackendFailure+"_"+name || f.Code == BackendFailure && len(f.Params) > 0 && f.Params[0] == name
}

// ParseFailure reads what a plugin answers when it fails. An error says that it is not as the
// toolstack wants it, who then shows nothing of it.
func ParseFailure(data []byte) (*Failure, error) {
	var all struct {
		Code      *string   `json:"code"`
		Params    *[]string `json:"params"`
		Backtrace *struct {
			Error *string   `json:"error"`
			Files *[]string `json:"files"`
			Lines *[]int    `json:"lines"`
		} `json:"backtrace"`
	}
	if err := json.Unmarshal(data, &all); err != nil || all.Code == nil || *all.Code == "" || all.Params == nil || all.Backtrace == nil ||
		all.Backtrace.Error == nil || all.Backtrace.Files == nil || all.Backtrace.Lines == nil {
		return nil, errors.New("the error lacks a field (code, params, backtrace{error, files, lines})")
	}
	return &Failure{*all.Code, *all.Params, Backtrace{*all.Backtrace.Error, *all.Backtrace.Files, *all.Backtrace.Lines}}, nil
}
