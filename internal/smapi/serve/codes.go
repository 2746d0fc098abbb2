package serve

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/smapi"
	"reflinksr/sr"
)

// ErrUnimplemented is the class of calls that a plugin does not have.
var ErrUnimplemented = errors.New("unimplemented")

// codes says which error of the interface a class of failure is: one that it names, or one
// that has a number.
var codes = []struct {
	class  error
	name   string
	number smapi.Number
}{
	{class: sr.ErrNotAttached, name: smapi.SRNotAttached},
	{class: sr.ErrSRNotFound, name: smapi.SRDoesNotExist},
	{class: sr.ErrVolumeNotFound, name: smapi.VolumeDoesNotExist},
	{class: sr.ErrElsewhere, name: smapi.ActivatedOnAnotherHost},
	{class: ErrUnimplemented, name: smapi.Unimplemented},
	{class: sr.ErrNoExtents, name: smapi.Unimplemented},

	{class: sr.ErrInvalid, number: smapi.InvalidArgument},
	{class: sr.ErrSRInUse, number: smapi.SRBusy},
	{class: sr.ErrInUse, number: smapi.VDIInUse},
	{class: sr.ErrBusy, number: smapi.LockNotHad},
	{class: sr.ErrSRExists, number: smapi.SRExists},
	{class: sr.ErrNoSpace, number: smapi.NoSpace},
	{class: sr.ErrReadOnly, number: smapi.SRUnavailable},
	{class: sr.ErrUnavailable, number: smapi.SRUnavailable},
	{class: sr.ErrNewer, number: smapi.SRUnavailable},
	{class: sr.ErrUnsuitable, number: smapi.SRNotCreatable},
	{class: sr.ErrDamaged, number: smapi.VDINotLoadable},
	{class: sr.ErrNoData, number: smapi.InvalidVDIType},
	{class: sr.ErrSize, number: smapi.InvalidSize},
	{class: sr.ErrNoCBT, number: smapi.NoChangedBlocks},
	{class: sr.ErrUnrelated, number: smapi.NoChangedBlocks},
	{class: unix.EIO, number: smapi.InputOutput},
}

// The classes of this package's own refusals.
var (
	errInvalid = sr.ErrInvalid
	errSize    = sr.ErrSize
)

// refuse is an error of a class, about something.
func refuse(class error, about, format string, args ...any) error {
	return sr.Errorf(class, about, format, args...)
}

// classOf is the class of an error, and what the error is about.
func classOf(err error) (class error, about string) {
	var e *sr.Error
	if errors.As(err, &e) {
		about = strings.ToValidUTF8(e.Item, "\uFFFD") // as it was given
	}
	switch class = sr.Classify(err); {
	case errors.Is(err, ErrUnimplemented):
		class = ErrUnimplemented
	case class == nil && sr.IsIO(err):
		class = unix.EIO
	}
	return class, about
}

// FailureOf is what a call answers that failed with an error.
func FailureOf(call string, err error) smapi.Failure {
	letter := sanitize(call + ": " + err.Error())
	class, about := classOf(err)
	for _, c := range codes {
		switch {
		case c.class != class:
		case c.name == "":
			return smapi.Numbered(c.number, letter)
		case class == sr.ErrNoExtents:
			return smapi.Named(c.name, call, letter)
		default:
			return smapi.Named(c.name, about, letter)
		}
	}
	return smapi.Numbered(smapi.General, letter)
}
