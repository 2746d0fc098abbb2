package fault

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The classes of failure. Test for them with errors.Is; a door turns each into
// its protocol's code. Everything else is an unexpected failure of the system.
var (
	ErrInvalid        = errors.New("invalid argument")
	ErrSize           = errors.New("invalid size")
	ErrSRNotFound     = errors.New("no such SR")
	ErrNotAttached    = errors.New("SR not attached")
	ErrUnavailable    = errors.New("SR not available")
	ErrSRExists       = errors.New("SR exists")
	ErrSRInUse        = errors.New("SR in use")
	ErrUnsuitable     = errors.New("unsuitable filesystem")
	ErrVolumeNotFound = errors.New("no such volume")
	ErrInUse          = errors.New("volume in use")
	ErrElsewhere      = errors.New("active on another host")
	ErrDamaged        = errors.New("damaged volume")
	ErrNewer          = errors.New("written by a newer version")
	ErrNoSpace        = errors.New("no space")
	ErrReadOnly       = errors.New("read-only filesystem")
	ErrBusy           = errors.New("locked for too long")
	ErrOtherFS        = errors.New("on another filesystem")
	ErrNoData         = errors.New("data destroyed")
	ErrNoCBT          = errors.New("no changed block tracking")
	ErrNoExtents      = errors.New("filesystem without extent maps")
	ErrUnrelated      = errors.New("unrelated volumes")
)

// Error is a failure that an operator can act on: its class, the thing it is
// about (an SR handle, a path, a key, a host UUID) and a sentence.
type Error struct {
	Class error  // one of the Err… values of this package
	Item  string // what the error is about, as it was given to us
	Text  string // cause, and what to do when we know it
}

func (e *Error) Error() string        { return e.Text }
func (e *Error) Is(target error) bool { return target == e.Class }

// Errorf makes an Error whose text is formatted like fmt.Sprintf.
func Errorf(class error, item, format string, args ...any) error {
	return &Error{Class: class, Item: item, Text: fmt.Sprintf(format, args...)}
}

// Unseen says that an error is the system's own: what it is about could not be looked at, so
// that nothing is known of it. It is neither absent nor damaged, and nobody's answer to a
// question whether it is in somebody's way.
func Unseen(err error) bool {
	var errno unix.Errno
	absent := errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
	return errors.As(err, &errno) && Classify(err) == nil && !absent
}

// IsIO says that a disk, or the filesystem on it, could not be read or written: the errors of
// drivers/md, block/blk-core.c (blk_errors), XFS and btrfs for that.
func IsIO(err error) bool {
	for _, errno := range []unix.Errno{unix.EIO, unix.EUCLEAN, unix.EBADMSG, unix.EREMOTEIO, unix.EILSEQ, unix.ENODATA, unix.ENOLINK, unix.EBADE, unix.ESHUTDOWN, unix.ETIMEDOUT} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// Classify says which class err belongs to: that of the first Error in its
// chain, or one derived from the system's errno, or nil. What a disk did not give comes
// before what followed from that.
func Classify(err error) error {
	var e *Error
	switch {
	case IsIO(err):
		return nil
	case errors.As(err, &e):
		return e.Class
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return ErrNoSpace
	case errors.Is(err, unix.EROFS):
		return ErrReadOnly
	case errors.Is(err, unix.EXDEV):
		return ErrOtherFS
	}
	return nil
}
