package serve

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/smapi"
)

// ErrUnimplemented is the class of calls that a plugin does not have.
var ErrUnimplemented = errors.New("unimplemented")

// codes says which error of the interface a class of failure is: one that it names, or one
// that has a number.
var codes = []struct {
	class  error
	name   string
	number smapi.Number
	call   string // that helps, or did it, if there is one: rooms know of no calls
}{
	{class: fault.ErrNotAttached, name: smapi.SRNotAttached, call: "SR.attach"},
	{class: fault.ErrSRNotFound, name: smapi.SRDoesNotExist},
	{class: fault.ErrVolumeNotFound, name: smapi.VolumeDoesNotExist},
	{class: fault.ErrElsewhere, name: smapi.ActivatedOnAnotherHost},
	{class: ErrUnimplemented, name: smapi.Unimplemented},
	{class: fault.ErrNoExtents, name: smapi.Unimplemented},

	{class: fault.ErrInvalid, number: smapi.InvalidArgument},
	{class: fault.ErrSRInUse, number: smapi.SRBusy},
	{class: fault.ErrInUse, number: smapi.VDIInUse},
	{class: fault.ErrBusy, number: smapi.LockNotHad},
	{class: fault.ErrSRExists, number: smapi.SRExists},
	{class: fault.ErrNoSpace, number: smapi.NoSpace},
	{class: fault.ErrReadOnly, number: smapi.SRUnavailable},
	{class: fault.ErrUnavailable, number: smapi.SRUnavailable},
	{class: fault.ErrNewer, number: smapi.SRUnavailable},
	{class: fault.ErrUnsuitable, number: smapi.SRNotCreatable},
	{class: fault.ErrDamaged, number: smapi.VDINotLoadable},
	{class: fault.ErrNoData, number: smapi.InvalidVDIType, call: "Volume.data_destroy"},
	{class: fault.ErrSize, number: smapi.InvalidSize},
	{class: fault.ErrNoCBT, number: smapi.NoChangedBlocks, call: "Volume.enable_cbt"},
	{class: fault.ErrUnrelated, number: smapi.NoChangedBlocks},
	{class: unix.EIO, number: smapi.InputOutput},
}

// classOf is the class of an error.
func classOf(err error) error {
	switch class := fault.Classify(err); {
	case errors.Is(err, ErrUnimplemented):
		return ErrUnimplemented
	case class == nil && fault.IsIO(err):
		return unix.EIO
	default:
		return class
	}
}

// about is what an error is about, as it was given.
func about(err error) string {
	var e *fault.Error
	if !errors.As(err, &e) {
		return ""
	}
	return strings.ToValidUTF8(e.Item, "\uFFFD")
}

// argument is the name that the call has for what an error is about; "" if that is none of its arguments.
func argument(call, item string) string {
	c := smapi.Find(call)
	if c == nil {
		return ""
	}
	for _, a := range smapi.ArgumentsOf(c.Request) {
		if a.Item == item {
			return a.Name
		}
	}
	return ""
}

// FailureOf is what a call answers that failed with an error.
func FailureOf(call string, err error) smapi.Failure {
	letter := sanitize(fault.In(call, err).Error())
	class := classOf(err)
	for _, c := range codes {
		if c.class == class && c.call != "" && c.call != call {
			letter += " (" + c.call + ")"
		}
		if name := argument(call, about(err)); c.class == class && (class == fault.ErrInvalid || class == fault.ErrSize) && name != "" && !strings.Contains(letter, strconv.Quote(name)) {
			letter += " (argument " + strconv.Quote(name) + ")"
		}
		switch {
		case c.class != class:
		case c.name == "":
			return smapi.Numbered(c.number, letter)
		case class == fault.ErrNoExtents:
			return smapi.Named(c.name, call, letter)
		default:
			return smapi.Named(c.name, about(err), letter)
		}
	}
	return smapi.Numbered(smapi.General, letter)
}
