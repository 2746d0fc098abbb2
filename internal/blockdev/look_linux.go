package blockdev

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
)

// Another disk of the host may be slow, or dead: then who opens it, or reads it, waits, for
// ever perhaps, and cannot be ended, nor can a process of which one thread waits. So each
// disk is looked at by a process of its own, which has nothing of ours but a pipe, and is
// left to itself when it does not answer in time.

// Look is what a look at a block device found.
type Look struct {
	Path   string            `json:"path"` // its node
	Dev    uint64            `json:"dev"`
	Size   int64             `json:"size"`             // bytes
	Blocks Superblocks       `json:"blocks"`           // where superblocks are
	Owner  string            `json:"owner,omitempty"`  // whose it is, if it is not the host's: then nothing of it was read
	Member string            `json:"member,omitempty"` // of what it is a part, if it shows what that would show
	Same   string            `json:"same,omitempty"`   // the same for all paths to one disk, as far as is known
	Blank  bool              `json:"blank,omitempty"`  // at a glance
	Info   map[string]string `json:"info,omitempty"`   // of a mount
	Ino    uint64            `json:"ino,omitempty"`    // of the file behind a loop device, and Dev is its too
	Rdev   uint64            `json:"rdev,omitempty"`   // of the device behind a loop device
	Offset int64             `json:"offset,omitempty"` // where a loop device begins in what is behind it

	Super Superblock `json:"-"` // that is in Blocks
}

const (
	// lookTimeout bounds the wait for any one device.
	lookTimeout = 3 * time.Second
	// SpinUp bounds the wait for the device that a call is about: a disk that sleeps
	// needs some.
	SpinUp = 10 * time.Second
	// lookSlots are how many looks are taken at once. One that takes longer than lookSlow
	// does not count any more.
	lookSlots = 8
	lookSlow  = 200 * time.Millisecond
)

// lookProgram is the name by which a program that has this package in it becomes a process
// that looks at one thing, says what it found on standard output, and ends.
const lookProgram = "reflinksr-look"

// It is not left to main to ask for that: every program must, tests too, and one that does
// not would begin from the beginning instead of looking.
func init() {
	if len(os.Args) != 3 || os.Args[0] != lookProgram {
		return
	}
	l, err := lookNow(os.Args[1], os.Args[2])
	said, e := json.Marshal(answerOf(l, err))
	if e != nil {
		os.Exit(1)
	}
	os.Stdout.Write(said)
	os.Stdout.Close() // who waits need not wait for the end of this process as well
	os.Exit(0)
}

// saidOfLook is what such a process says. Of an error the class goes with it, and the
// errno: who asks must know a disk that cannot be read from one that is not there.
type saidOfLook struct {
	Look
	Err   string
	Class string
	Errno uintptr
}

func answerOf(l Look, err error) saidOfLook {
	said := saidOfLook{Look: l}
	if err == nil {
		return said
	}
	said.Err = err.Error()
	var errno unix.Errno
	if errors.As(err, &errno) {
		said.Errno = uintptr(errno)
	}
	for _, class := range lookClasses {
		if errors.Is(err, class) {
			said.Class = class.Error()
			break
		}
	}
	return said
}

// lookClasses are what else than an errno an error of a look can be.
var lookClasses = []error{ErrOwner, fault.ErrInvalid, fault.ErrUnsuitable, fault.ErrSRInUse, fault.ErrBusy, fault.ErrUnavailable, fault.ErrDamaged}

// err is the error again.
func (said saidOfLook) err() error {
	if said.Err == "" {
		return nil
	}
	err := &told{text: said.Err}
	for _, class := range lookClasses {
		if class.Error() == said.Class && class != ErrOwner {
			err.is = append(err.is, fault.Errorf(class, "", "%s", said.Err))
		} else if class.Error() == said.Class {
			err.is = append(err.is, class)
		}
	}
	if said.Errno != 0 {
		err.is = append(err.is, unix.Errno(said.Errno))
	}
	return err
}

// told is a text, and what it is about for who asks with errors.Is and As.
type told struct {
	text string
	is   []error
}

func (e *told) Error() string   { return e.text }
func (e *told) Unwrap() []error { return e.is }

// lookNow looks at a "disk", a "mount" or a "loop" device's file, in this very process.
func lookNow(what, path string) (Look, error) {
	switch what {
	case "mount":
		return lookAtMount(path)
	case "loop":
		return lookAtLoop(path)
	}
	return lookAtDisk(path)
}

// ErrMute says that a device did not answer in time.
var ErrMute = errors.New("does not answer")

// LookAt looks at one thing, for so long.
func LookAt(what, path string, timeout time.Duration) (Look, error) {
	l, err := lookElsewhere(what, path, timeout)
	if errors.Is(err, errNoProcess) && !IsShortage(err) {
		slog.Warn("no process of its own could be started for a look", "path", path, "err", err)
		l, err = lookNow(what, path)
	}
	if errors.Is(err, ErrMute) {
		err = fault.Hint(fault.Errorf(fault.ErrUnavailable, path, "%s does not answer: nothing was heard of it within %v", path, timeout),
			"look at the kernel's log")
		err = &told{err.Error(), []error{err, ErrMute}}
	}
	l.Super = l.Blocks.Parse()
	return l, err
}

var errNoProcess = errors.New("no process of its own for a look")

// IsShortage says whether this process, and not what it looks at, lacks something.
func IsShortage(err error) bool {
	return slices.ContainsFunc([]error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EAGAIN}, func(e error) bool { return errors.Is(err, e) })
}

func lookElsewhere(what, path string, timeout time.Duration) (l Look, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return l, fmt.Errorf("%w: %w", errNoProcess, err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return l, fmt.Errorf("%w: %w", errNoProcess, err)
	}
	defer r.Close()
	p, err := os.StartProcess("/proc/self/exe", []string{lookProgram, what, path}, &os.ProcAttr{Dir: "/", Env: []string{}, Files: []*os.File{null, w, null}})
	w.Close()
	if err != nil {
		return l, fmt.Errorf("%w: %w", errNoProcess, err)
	}
	// It may have answered and not come to its end: closing a device can take as long as
	// opening one.
	defer func() { go p.Wait() }()
	if err := r.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return l, err
	}
	data, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.Kill() // once it can be
		return l, ErrMute
	}
	if err != nil {
		return l, err
	}
	var said saidOfLook
	if err := json.Unmarshal(data, &said); err != nil {
		return l, fmt.Errorf("%s: the look at it ended without an answer: %w", path, err)
	}
	return said.Look, said.err()
}

// Answer is what came of a look.
type Answer struct {
	Look
	Err error
}

// LookAtAll looks at many things at once. The answers are in the order of the paths.
func LookAtAll(what string, paths []string) []Answer {
	answers := make([]Answer, len(paths))
	slots := make(chan struct{}, lookSlots)
	var all sync.WaitGroup
	for i, path := range paths {
		slots <- struct{}{}
		all.Add(1)
		go func() {
			defer all.Done()
			var once sync.Once
			free := func() { once.Do(func() { <-slots }) }
			timer := time.AfterFunc(lookSlow, free)
			answers[i].Look, answers[i].Err = LookAt(what, path, lookTimeout)
			timer.Stop()
			free()
		}()
	}
	all.Wait()
	return answers
}

// Surroundings is what there is on the disks of this host.
type Surroundings struct {
	Disks []Look   // those that answered and are the host's, in the order of their names
	Mute  []string // those that did not answer
	ill   []string // those that could not be read
}

// Around looks at the disks of this host: not at those that others are made of, and
// not at those of guests.
func Around() (a Surroundings, err error) {
	nodes, err := hostDisks()
	if err != nil {
		return a, err
	}
	for i, answer := range LookAtAll("disk", nodes) {
		switch {
		case errors.Is(answer.Err, ErrMute):
			a.Mute = append(a.Mute, nodes[i])
		case IsShortage(answer.Err):
			return a, answer.Err // who cannot look has not seen that there is nothing
		case fault.IsIO(answer.Err):
			slog.Warn("a disk cannot be read", "device", nodes[i], "err", answer.Err)
			a.ill = append(a.ill, nodes[i])
		case answer.Err != nil:
			// No node, no disk in the drive, no path to it, nothing that can be read.
			slog.Debug("a disk cannot be looked at", "device", nodes[i], "err", answer.Err)
		case answer.Owner == "":
			a.Disks = append(a.Disks, answer.Look)
		}
	}
	if len(a.Mute) > 0 {
		slog.Warn("disks of this host do not answer", "devices", strings.Join(a.Mute, ", "), "timeout", lookTimeout)
	}
	slices.SortFunc(a.Disks, func(x, y Look) int { return strings.Compare(x.Path, y.Path) })
	return a, nil
}

// Silence says which disks did not answer, or could not be read, for the end of a sentence.
func (a Surroundings) Silence() (said string) {
	for _, of := range []struct {
		disks     []string
		one, many string
	}{{a.Mute, "does not answer", "do not answer"}, {a.ill, "cannot be read", "cannot be read"}} {
		switch len(of.disks) {
		case 0:
		case 1:
			said += "; " + of.disks[0] + " " + of.one + ", and may be it"
		default:
			said += "; " + strings.Join(of.disks, ", ") + " " + of.many + ", and one of them may be it"
		}
	}
	return said
}
