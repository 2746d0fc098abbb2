package explore

import (
	"reflinksr/cmd/srcrash/internal/trace"
)

// Subject is a command to explore. Its methods are called from one goroutine. The
// filesystem is mounted at the same directory throughout.
type Subject interface {
	// Name tells the subject from others.
	Name() string
	// Setup makes the state before, on an empty filesystem. Called once.
	Setup() error
	// Begin prepares the host for a run on a fresh clone of what Setup left.
	Begin() error
	// Command is what is explored, and where its changes count: the directories and
	// files that its calls must be about.
	Command() (c trace.Command, scope []string)
	// Refused says that undisturbed the command is refused, and changes nothing: what keeps
	// it from that is explored.
	Refused() bool
	// Recovery is what the host runs after a restart.
	Recovery() trace.Command
	// Learn looks at what the undisturbed command left, which is right by definition.
	Learn(Ending) error
	// Judge recovers what was left, and says in a sentence each what is wrong.
	Judge(Ending) []string
	// Spoil changes what an undisturbed command left for the worse in the i-th way, and
	// says how; "" when there are no more ways.
	Spoil(i int) (how string, err error)
	// Plain replaces what differs from run to run in the description of a call.
	Plain(call string) string
	// Restart makes the host forget what does not outlive a power cut.
	Restart() error
	// Alone says that it counts which files share blocks. Every run has a filesystem of
	// its own then: where several have one, copies of the state before share them as well.
	Alone() bool
	// End lets go of the filesystem.
	End() error
}

// Ending is how a run came to its end.
type Ending struct {
	Result trace.Result
	// Fault is what happened to it; nil: nothing.
	Fault *Fault
	// Cut says that the power failed. If it failed before the command had ended,
	// Result is empty.
	Cut bool
	// Said is what the command had written on standard output by then.
	Said []byte
	// Ended says that the command came to its end by itself, and its caller has heard
	// what it answered.
	Ended bool
	// Recovered says that a recovery was interrupted in between, so that no look at what
	// was left before it makes sense.
	Recovered bool
}

// Fault is one disturbance of a run.
type Fault struct {
	Mode   string      `json:"mode"`            // as in the package's description
	Errno  string      `json:"errno,omitempty"` // with err and look
	Sticky bool        `json:"sticky,omitempty"`
	N      int         `json:"n"`               // the call's number, from 1
	Call   string      `json:"call"`            // and what it was
	Again  int         `json:"again,omitempty"` // with double: the number of the recovery's call
	Stop   *trace.Stop `json:"-"`
}
