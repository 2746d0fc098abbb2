package fault

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Error is a failure that an operator can act on.
type Error struct {
	Op    string // the operation that failed, by the name that its front end has for it (In); "" until then
	Class error  // one of the Err… values of this package
	Item  string // what it is about, as it was given to us: an SR's handle, a path, a volume's key, a host's UUID; of a value that is wrong in itself what it is: "size", "name", "offset", "domain", or its key in the configuration
	Text  string // what is wrong, and why
	Cause error  // the error that made it so, which errors.Is and As find; nil if there is none
	Hint  string // what to do about it; "" if nobody knows
}

func (e *Error) Error() string {
	text := e.Text
	if e.Op != "" {
		text = e.Op + ": " + text
	}
	if e.Hint != "" {
		text += ": " + e.Hint
	}
	return text
}

// Is makes errors.Is true of its class.
func (e *Error) Is(target error) bool { return target == e.Class }

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes an Error whose text is formatted like fmt.Errorf: of one %w the cause is kept. An input/output error that
// is kept so is told as one, whatever the class: use %v for what was only met on the way.
func Errorf(class error, item, format string, args ...any) error {
	said := fmt.Errorf(format, args...)
	return &Error{Class: class, Item: item, Text: said.Error(), Cause: errors.Unwrap(said)}
}

// Hint adds to an Error what to do about it, formatted like fmt.Sprintf. Its text ends with that, after a colon;
// who shows hints apart takes the fields.
func Hint(err error, format string, args ...any) error {
	e, is := err.(*Error)
	if !is {
		e = In("", err).(*Error) // what is around an Error, or beside it, is not to be lost
	}
	with := *e
	with.Hint = fmt.Sprintf(format, args...)
	return &with
}

// HintOf is what to do about an error, as far as it tells.
func HintOf(err error) string {
	var e *Error
	for errors.As(err, &e) && e.Hint == "" {
		err, e = e.Cause, nil
	}
	if e == nil {
		return ""
	}
	return e.Hint
}

// In names the operation that failed, as a front end calls it: class, item, cause and hint stay what they are.
func In(op string, err error) error {
	e := &Error{Op: op, Class: Classify(err), Text: err.Error(), Cause: err}
	var inner *Error
	if errors.As(err, &inner) {
		e.Item = inner.Item
	}
	return e
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
