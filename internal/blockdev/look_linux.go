package blockdev

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
)

// Another disk of the host may be slow, or dead: then who opens it, or reads it, waits, for
// ever perhaps, and cannot be ended, nor can a process of which one thread waits. So disks
// are looked at by processes of their own, which have nothing of ours but a pipe, and are
// left to themselves when they do not answer in time; see look_process_linux.go.

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
	// lookSlots are among how many processes many looks are shared. None waits longer than
	// lookSlow for one that another takes.
	lookSlots = 8
	lookSlow  = 200 * time.Millisecond
)

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
	return looked(what, path, timeout, l, err)
}

// looked is what a look came to, in words for whoever asked.
func looked(what, path string, timeout time.Duration, l Look, err error) (Look, error) {
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

// Answer is what came of a look.
type Answer struct {
	Look
	Err error
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
