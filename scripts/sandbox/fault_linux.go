package sandbox

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Fault is a kind of system call that fails.
type Fault struct {
	Call  string // a name of calls, as in "fsync" or "FICLONE"
	File  string // only on files that this pattern of package path matches, see Name; on any if empty
	Errno unix.Errno
	Only  []int // which of those that a program makes fail, the first being 1; all if empty
}

// ParseFault reads CALL, CALL:FILE or CALL:FILE=N,N…: the first calls of all files would
// be others whenever the program changes.
func ParseFault(errno, text string) (Fault, error) {
	what, only, some := strings.Cut(text, "=")
	name, file, ofFile := strings.Cut(what, ":")
	f := Fault{Call: name, File: file}
	if _, ok := calls[name]; !ok {
		return f, fmt.Errorf("no system call %q is known that could fail; there are %s", name, strings.Join(names(), ", "))
	}
	if _, err := path.Match(file, ""); err != nil || ofFile && file == "" {
		return f, fmt.Errorf("%q is no pattern of files in %q", file, text)
	}
	if some && !ofFile {
		return f, fmt.Errorf("say of which file: %s:FILE=%s", name, only)
	}
	if errno == "EOPNOTSUPP" {
		errno = "ENOTSUP" // the same number
	}
	for e := unix.Errno(1); e < 200; e++ {
		if errno != "" && unix.ErrnoName(e) == errno {
			f.Errno = e
		}
	}
	if f.Errno == 0 {
		return f, fmt.Errorf("there is no error %q", errno)
	}
	if !some {
		return f, nil
	}
	for _, n := range strings.Split(only, ",") {
		which, err := strconv.Atoi(n)
		if err != nil || which < 1 {
			return f, fmt.Errorf("%q is no number of a call, the first of which is 1", n)
		}
		f.Only = append(f.Only, which)
	}
	return f, nil
}

// String is the fault without which of the calls fail.
func (f Fault) String() string {
	if f.File == "" {
		return f.Call
	}
	return f.Call + ":" + f.File
}

// Name is what patterns call a file: its path in the first of s.Dirs that it is in, "." for
// the last of them itself, or the whole path.
func (s Sandbox) Name(file string) string {
	for _, dir := range s.Dirs {
		if in, ok := strings.CutPrefix(file, dir+"/"); ok {
			return in
		}
	}
	if n := len(s.Dirs); n > 0 && file == s.Dirs[n-1] {
		return "."
	}
	return file
}

// anyKey is what KEY stands for in a pattern: * would be a volume's data and its record.
const anyKey = "????????-????-????-????-????????????"

// meets says whether a fault is about a call on a file.
func (s Sandbox) meets(f Fault, call, file string) bool {
	if f.Call != call {
		return false
	}
	if f.File == "" {
		return slices.ContainsFunc(s.Below, func(below string) bool { return strings.HasPrefix(file, below) })
	}
	matched, _ := path.Match(strings.ReplaceAll(f.File, "KEY", anyKey), s.Name(file)) // ParseFault has seen to the pattern
	return matched
}

// systemCall tells a call by its number and, an ioctl, by its request; and says what
// file it is on.
type systemCall struct {
	number  uint32
	request uint32
	// The arguments, counted from 0, that name the file: path is a path relative to the
	// descriptor fd, or -1 where fd is the file.
	fd, path int
}

// calls are those that a plugin's state depends on. Where a call has two files, it is on
// the one that it changes: what is renamed to, what gets the blocks.
var calls = map[string]systemCall{
	"openat":            {unix.SYS_OPENAT, 0, 0, 1},
	"mkdirat":           {unix.SYS_MKDIRAT, 0, 0, 1},
	"renameat":          {unix.SYS_RENAMEAT, 0, 2, 3},
	"renameat2":         {unix.SYS_RENAMEAT2, 0, 2, 3},
	"unlinkat":          {unix.SYS_UNLINKAT, 0, 0, 1},
	"read":              {unix.SYS_READ, 0, 0, -1},
	"write":             {unix.SYS_WRITE, 0, 0, -1},
	"fsync":             {unix.SYS_FSYNC, 0, 0, -1},
	"ftruncate":         {unix.SYS_FTRUNCATE, 0, 0, -1},
	"fallocate":         {unix.SYS_FALLOCATE, 0, 0, -1},
	"flock":             {unix.SYS_FLOCK, 0, 0, -1},
	"FICLONE":           {unix.SYS_IOCTL, unix.FICLONE, 0, -1},
	"FICLONERANGE":      {unix.SYS_IOCTL, unix.FICLONERANGE, 0, -1},
	"LOOP_CTL_GET_FREE": {unix.SYS_IOCTL, unix.LOOP_CTL_GET_FREE, 0, -1},
	"LOOP_CONFIGURE":    {unix.SYS_IOCTL, unix.LOOP_CONFIGURE, 0, -1},
	"LOOP_SET_CAPACITY": {unix.SYS_IOCTL, unix.LOOP_SET_CAPACITY, 0, -1},
	"LOOP_CLR_FD":       {unix.SYS_IOCTL, unix.LOOP_CLR_FD, 0, -1},
}

func names() []string {
	var all []string
	for name := range calls {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// named finds what a call is called; "" if it is none of calls.
func (n notification) named() string {
	for name, c := range calls {
		if c.number == uint32(n.number) && (c.number != unix.SYS_IOCTL || c.request == uint32(n.args[1])) {
			return name
		}
	}
	return ""
}
