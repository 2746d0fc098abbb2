package load

import (
	"strings"
)

// way is how a snapshot was taken.
type way struct {
	name string // one of the four below
	more string // from which it started, or why it was not taken in the better way
}

const (
	atOnce  = "FICLONE"
	preCopy = "pre-copy"
	gaveUp  = "FICLONE after pre-copy" // which found no moment
)

var killed = way{name: "no answer"}

func (w way) String() string {
	if w.more == "" {
		return w.name
	}
	return w.name + " (" + w.more + ")"
}

// What the plugin tells the log.
const (
	saysPreCopy = "the disk was cloned while it was in use "
	saysGaveUp  = "the disk is cloned at once, which holds up its guest "
)

// wayOf is how the call of a process took its snapshot, by what it told the log.
func (b *bed) wayOf(pid int) (way, error) {
	lines, err := b.log.Of(pid)
	if err != nil {
		return way{}, err
	}
	w := way{name: atOnce}
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, saysPreCopy):
			w = way{preCopy, attribute(line, "from")}
		case strings.HasPrefix(line, saysGaveUp):
			w = way{gaveUp, attribute(line, "why")}
		}
	}
	return w, nil
}

// attribute is a quoted one of a line.
func attribute(line, name string) string {
	_, rest, _ := strings.Cut(line, " "+name+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}
