package recording

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// noteName is the file that makes a directory a wrapping one.
const noteName = ".srtest-wrap.json"

// note is what a wrapping directory says to the recorder.
type note struct {
	Directory string `json:"directory"` // where the toolstack finds the plugin
	Original  string `json:"original"`  // where the plugin is while it is wrapped
	Log       string `json:"log"`
}

func readNote(dir string) (n note, err error) {
	data, err := os.ReadFile(filepath.Join(dir, noteName))
	if err != nil {
		return n, err
	}
	return n, json.Unmarshal(data, &n)
}

// wrappedVerb is the first argument of a recorder that is started by a wrapping
// directory; the path of the call is the second.
const wrappedVerb = "wrapped"

// AsWrapper is called first in main. If the process was started as a call of a
// wrapped plugin it makes that call, records it and says with which status to
// exit; ok is false if it was not.
func AsWrapper() (status int, ok bool) {
	if len(os.Args) < 3 || os.Args[1] != wrappedVerb {
		return 0, false
	}
	call, err := filepath.Abs(os.Args[2])
	// The plugin may be unwrapped, and wrapped again, at any moment. As long as it
	// was not started nothing was read, and it can be looked for again.
	for try := 0; err == nil; try++ {
		if status, err = callWrapped(call, os.Args[3:]); err == nil {
			return status, true
		}
		if errors.Is(err, os.ErrNotExist) && try < 50 {
			time.Sleep(2 * time.Millisecond)
			err = nil
		}
	}
	fmt.Fprintf(os.Stderr, "%s: the recorder cannot start the plugin: %v; take the recorder away with srtest unwrap\n", call, err)
	return StartStatus(err), true
}

func callWrapped(call string, args []string) (status int, err error) {
	dir, name := filepath.Split(call)
	n, err := readNote(dir)
	switch {
	case errors.Is(err, os.ErrNotExist): // it was unwrapped after we were started
		return 0, become(call, args)
	case err != nil:
		return 0, err
	case filepath.Clean(dir) == n.Original: // likewise: here is the wrapping directory on its way out
		return 0, become(filepath.Join(n.Directory, name), args)
	}
	leave := enter(filepath.Dir(n.Original))
	defer leave()
	return Command{
		Path: filepath.Join(n.Original, name), Args: args, Plugin: filepath.Base(n.Directory), Log: n.Log,
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
	}.Run()
}

// become runs another program in our place; it comes back only if that fails.
func become(path string, args []string) error {
	return syscall.Exec(path, append([]string{path}, args...), os.Environ())
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
