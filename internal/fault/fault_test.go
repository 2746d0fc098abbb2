package fault

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestClassify(t *testing.T) {
	for _, tt := range []struct{ err, want error }{
		{Errorf(ErrInUse, "x", "text"), ErrInUse},
		{fmt.Errorf("wrapped: %w", Errorf(ErrDamaged, "x", "text")), ErrDamaged},
		{&os.PathError{Op: "write", Err: unix.ENOSPC}, ErrNoSpace},
		{&os.PathError{Op: "write", Err: unix.EDQUOT}, ErrNoSpace},
		{&os.PathError{Op: "open", Err: unix.EROFS}, ErrReadOnly},
		{&os.LinkError{Op: "FICLONE", Err: unix.EXDEV}, ErrOtherFS},
		{unix.EIO, nil},
	} {
		if got := Classify(tt.err); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
}

// What the system says is told from what we say, and bad blocks from the rest of it.
func TestErrorsOfTheSystem(t *testing.T) {
	noVolume := Errorf(ErrVolumeNotFound, "x", "volume x: no such volume in SR y")
	path := func(errno unix.Errno) error { return &os.PathError{Op: "stat", Path: "x", Err: errno} }
	for _, c := range []struct {
		err        error
		unseen, io bool
		class      error
	}{
		{nil, false, false, nil},
		{path(unix.ENOENT), false, false, nil},
		{path(unix.ENOTDIR), false, false, nil},
		{path(unix.EIO), true, true, nil},
		{path(unix.EUCLEAN), true, true, nil},
		{fmt.Errorf("volume: %w", path(unix.EBADMSG)), true, true, nil},
		{path(unix.EMFILE), true, false, nil},
		{path(unix.EACCES), true, false, nil},
		{path(unix.ENOSPC), false, false, ErrNoSpace},
		{Errorf(ErrDamaged, "x", "it is no file"), false, false, ErrDamaged},
		{errors.New("no error of the system"), false, false, nil},
		{errors.Join(noVolume, path(unix.EIO)), true, true, nil},
		{errors.Join(path(unix.EMFILE), noVolume), false, false, ErrVolumeNotFound},
	} {
		if Unseen(c.err) != c.unseen || IsIO(c.err) != c.io || Classify(c.err) != c.class {
			t.Errorf("%v: unseen %v, input/output error %v, class %v", c.err, Unseen(c.err), IsIO(c.err), Classify(c.err))
		}
	}
}

// Text, cause and hint are told together, and can be had apart.
func TestHint(t *testing.T) {
	cause := &os.PathError{Op: "open", Path: "/srv", Err: unix.EACCES}
	err := Hint(Errorf(ErrUnavailable, "/srv", "SR %s cannot be read: %w", "/srv", cause), "look at %s", "dmesg")
	if got, want := err.Error(), "SR /srv cannot be read: open /srv: permission denied: look at dmesg"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	var path *os.PathError
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, unix.EACCES) || !errors.As(err, &path) || HintOf(fmt.Errorf("wrapped: %w", err)) != "look at dmesg" {
		t.Errorf("%#v", err)
	}
	if err := Hint(errors.New("of the system"), "wait"); err.Error() != "of the system: wait" || HintOf(err) != "wait" {
		t.Errorf("%v", err)
	}
	around := Hint(errors.Join(fmt.Errorf("SR x: %w", Errorf(ErrSRInUse, "x", "in use")), unix.EIO), "look")
	if got, want := around.Error(), "SR x: in use\ninput/output error: look"; got != want || !IsIO(around) || !errors.Is(around, ErrSRInUse) {
		t.Errorf("%q, want %q", got, want)
	}
	in := In("Volume.stat", fmt.Errorf("wrapped: %w", err))
	if got, want := in.Error(), "Volume.stat: wrapped: SR /srv cannot be read: open /srv: permission denied: look at dmesg"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if Classify(in) != ErrUnavailable || HintOf(in) != "look at dmesg" || !errors.Is(in, unix.EACCES) {
		t.Errorf("%#v", in)
	}
	if in := In("x", unix.ENOSPC); Classify(in) != ErrNoSpace {
		t.Errorf("%#v", in)
	}
	if in := In("x", unix.EIO); Classify(in) != nil || !IsIO(in) || in.Error() != "x: input/output error" {
		t.Errorf("%#v", in)
	}
	if HintOf(nil) != "" || Errorf(ErrInvalid, "x", "no hint").Error() != "no hint" {
		t.Error("a hint out of nothing")
	}
}

// A cause that is an input/output error is told as one, whatever class it was given.
func TestCauseIsIO(t *testing.T) {
	if err := Errorf(ErrDamaged, "x", "unreadable: %w", unix.EIO); Classify(err) != nil || !IsIO(err) {
		t.Errorf("%v is %v", err, Classify(err))
	}
}
