package trace

import (
	"os"
	"strings"
	"syscall"
	"time"
)

// Command is what to run.
type Command struct {
	Path    string // of the executable, absolute
	Args    []string
	Env     []string // nil for this process's
	Dir     string
	Stdin   []byte
	Stdout  *os.File      // for whoever looks at it meanwhile; nil for one of its own
	Timeout time.Duration // after which it hangs; by default 60 s
	Looks   bool          // also calls are traced that only look: read, stat, getdents …

	// Stop is called before every traced call, with the command's other threads
	// running. It may be nil.
	Stop func(*Stop) Action
}

// Stop is a system call that is about to be made.
type Stop struct {
	Name   string // "renameat2", "ioctl FICLONE"
	Kind   Kind
	Paths  []string // what it is about, absolute; an open file's by /proc
	Length uint64   // of a write, in bytes; else 0
}

// String is the call and its paths.
func (s *Stop) String() string { return s.Name + " " + strings.Join(s.Paths, " ") }

// Below says whether the call is about something in one of the directories, or one
// of these files.
func (s *Stop) Below(dirs ...string) bool {
	for _, path := range s.Paths {
		for _, dir := range dirs {
			if path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/") {
				return true
			}
		}
	}
	return false
}

// Action is what becomes of a stopped call. The zero Action lets it happen.
type Action struct {
	Kill   bool           // end the command, and everything that it started, before the call
	Signal syscall.Signal // send the process that makes it this signal, and let the call happen
	Errno  syscall.Errno  // do not make the call; it fails with this
	Short  bool           // write only the first half; for calls with a Length
}

// Result is what became of a command.
type Result struct {
	Stdout, Stderr []byte
	Status         syscall.WaitStatus // of the command itself
	Hung           bool               // it was killed at its Timeout
}

// Succeeded says that the command exited by itself, with status 0.
func (r Result) Succeeded() bool { return r.Status.Exited() && r.Status.ExitStatus() == 0 }

// Kind is what a system call can do.
type Kind int

const (
	Read   Kind = iota // it only looks, or only gets something for this process
	Open               // it opens what is there
	Change             // it can change a file, a directory, a device or a mount
	Sync               // it makes changes durable
	Output             // it writes the answer (standard output)
)
