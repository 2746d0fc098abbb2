package recording

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/smapi"
)

// noteName is the file that makes a directory a wrapping one.
const noteName = ".srtest-wrap.json"

// recorderName is the recorder's program beside the original directory.
const recorderName = "srtest"

// note is what a wrapping directory says to the recorder.
type note struct {
	Directory string   `json:"directory"` // where the toolstack finds the plugin
	Original  string   `json:"original"`  // where the plugin is while it is wrapped
	Links     string   `json:"links"`     // where links are to calls that lead elsewhere
	Log       string   `json:"log"`
	Stands    []string `json:"stands"` // the names of what is the plugin's own
}

func readNote(dir string) (n note, err error) {
	data, err := os.ReadFile(filepath.Join(dir, noteName))
	if err != nil {
		return n, err
	}
	return n, json.Unmarshal(data, &n)
}

// wrappedVerb is what the first line of a script has the kernel say to the recorder,
// before what the line was: "wrapped /usr/bin/python3 -I". The path of the script is next.
const wrappedVerb = "wrapped"

// AsWrapper is called first in main. If the process was started as a call of a
// wrapped plugin it makes that call, records it and says with which status to
// exit; ok is false if it was not.
func AsWrapper() (status int, ok bool) {
	s := start{path: startedAs(), args: os.Args[1:]}
	if len(os.Args) >= 3 && strings.HasPrefix(os.Args[1], wrappedVerb+" ") {
		s = start{path: os.Args[2], args: os.Args[3:], script: true}
	} else if !isWrapping(filepath.Dir(s.path)) && !smapi.IsName(filepath.Base(s.path)) {
		return 0, false
	}
	// The plugin may be unwrapped, and wrapped again, at any moment. As long as it
	// was not started nothing was read, and it can be looked for again.
	var err error
	for try := 0; err == nil; try++ {
		if status, err = s.wrapped(); err == nil {
			return status, true
		}
		if errors.Is(err, os.ErrNotExist) && try < 50 {
			time.Sleep(2 * time.Millisecond)
			err = nil
		}
	}
	fmt.Fprintf(os.Stderr, "%s: the recorder cannot start the plugin: %v; take the recorder away with srtest unwrap\n", s.path, err)
	return StartStatus(err), true
}

// startedAs is the path by which the kernel was asked to start this process
// (getauxval(3), AT_EXECFN): argv[0] may say anything.
func startedAs() string {
	const atExecfn = 31
	vector, _ := unix.Auxv()
	for _, entry := range vector {
		if entry[0] == atExecfn {
			return unix.BytePtrToString(*(**byte)(unsafe.Pointer(&entry[1])))
		}
	}
	return os.Args[0]
}

// start is how a call of a wrapped plugin was started.
type start struct {
	path   string // by which path
	args   []string
	script bool // it is one
}

func (s start) wrapped() (status int, err error) {
	call, err := filepath.Abs(s.path)
	if err != nil {
		return 0, err
	}
	dir, name := filepath.Split(call)
	n, err := readNote(dir)
	switch {
	case errors.Is(err, os.ErrNotExist): // it was unwrapped after we were started
		return 0, s.become(s.path, os.Args[0])
	case err != nil:
		return 0, err
	case filepath.Clean(dir) == n.Original: // likewise: here is the wrapping directory on its way out
		return 0, s.become(filepath.Join(n.Directory, name), os.Args[0])
	}
	path, argv, err := s.program(n, name)
	if err != nil {
		return 0, err
	}
	if !smapi.IsName(name) || calledByOurselves() {
		// What a plugin starts of its own is not what the toolstack said.
		return 0, s.become(path, argv...)
	}
	leave := enter(n.aside())
	defer leave()
	return Command{
		Path: path, Argv: argv, Args: s.args, Call: name, Plugin: filepath.Base(n.Directory), Log: n.Log,
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
	}.Run()
}

// aside is where the recorder's program and locks are.
func (n note) aside() string { return filepath.Dir(filepath.Dir(n.Original)) }

// program is what to start for a call, and what is before its arguments.
func (s start) program(n note, name string) (path string, argv []string, err error) {
	if s.script {
		// As the kernel does it (binfmt_script), but for the line that we have put there.
		program, arg, err := interpreter(s.path)
		if argv = []string{program, arg, s.path}; arg == "" {
			argv = []string{program, s.path}
		}
		return program, argv, err
	}
	to, inside := follow(n.Directory, n.Original, name)
	if inside {
		return filepath.Join(n.Original, to), os.Args[:1], nil
	}
	if _, _, err := interpreter(to); err == nil {
		link := filepath.Join(n.Links, name)
		return link, []string{link}, nil
	}
	return to, os.Args[:1], nil
}

// errNoScript is a file that names no interpreter.
var errNoScript = errors.New("it is no script")

// interpreter reads the first line of a script, also of one that has another from us.
func interpreter(path string) (program, arg string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	line, err := bufio.NewReaderSize(f, 4096).ReadSlice('\n')
	if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
		return "", "", err
	}
	text, ok := strings.CutPrefix(string(line), "#!")
	if !ok {
		return "", "", errNoScript
	}
	if _, was, ours := strings.Cut(text, "/"+recorderName+" "+wrappedVerb+" "); ours {
		text = was
	}
	const blanks = " \t"
	text = strings.Trim(strings.TrimSuffix(text, "\n"), blanks)
	if i := strings.IndexAny(text, blanks); i >= 0 {
		return text[:i], strings.TrimLeft(text[i:], blanks), nil
	}
	if text == "" {
		return "", "", errNoScript
	}
	return text, "", nil
}

// become runs another program in our place; it comes back only if that fails.
func (s start) become(path string, argv ...string) error {
	return syscall.Exec(path, append(slices.Clone(argv), s.args...), os.Environ())
}

// calledByOurselves says that a plugin's call has made this one.
func calledByOurselves() bool {
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return false
	}
	for pid := os.Getppid(); pid > 1; {
		if exe, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && os.SameFile(exe, self) {
			return true
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		// The name, in brackets, may hold anything (proc_pid_stat(5)).
		var state string
		if _, err := fmt.Sscan(string(stat[bytes.LastIndexByte(stat, ')')+1:]), &state, &pid); err != nil {
			return false
		}
	}
	return false
}

// Two locks beside the original let unwrapping have a moment without calls: a call
// passes the door and is in the room until it ends; who unwraps closes the door
// and waits, not for long, until the room is empty.
const (
	doorName = "door"
	roomName = "room"
	roomWait = time.Second
	doorWait = 3 * roomWait
)

// enter is a call's way into the room. If it fails the call is made all the same.
func enter(aside string) (leave func()) {
	door, err := os.Open(filepath.Join(aside, doorName))
	if err != nil {
		return func() {}
	}
	defer door.Close()
	lockWithin(door, unix.LOCK_SH, doorWait)
	room, err := os.Open(filepath.Join(aside, roomName))
	if err != nil {
		return func() {}
	}
	lockWithin(room, unix.LOCK_SH, doorWait)
	return func() { room.Close() }
}

// empty closes the door and says whether the room is empty; open opens the door.
func empty(aside string) (quiet bool, open func()) {
	door, err := os.Open(filepath.Join(aside, doorName))
	if err != nil {
		return false, func() {}
	}
	room, err := os.Open(filepath.Join(aside, roomName))
	if err != nil {
		return false, func() { door.Close() }
	}
	quiet = lockWithin(door, unix.LOCK_EX, doorWait) && lockWithin(room, unix.LOCK_EX, roomWait)
	return quiet, func() { room.Close(); door.Close() }
}
