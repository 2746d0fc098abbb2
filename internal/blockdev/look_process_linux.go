package blockdev

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
)

// lookProgram is the name by which a program that has this package in it becomes a process
// that looks at things one after the other, says of each what it found in a line on standard output, and ends.
const lookProgram = "reflinksr-look"

// It is not left to main to ask for that: every program must, tests too, and one that does
// not would begin from the beginning instead of looking.
func init() {
	if len(os.Args) < 3 || os.Args[0] != lookProgram {
		return
	}
	for _, path := range os.Args[2:] {
		l, err := lookNow(os.Args[1], path)
		said, e := json.Marshal(answerOf(l, err))
		if e != nil {
			os.Exit(1)
		}
		if _, err := os.Stdout.Write(append(said, '\n')); err != nil {
			os.Exit(1) // nobody waits any more
		}
	}
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

// looking is such a process.
type looking struct {
	process *os.Process
	pipe    *os.File
	said    *bufio.Reader
	left    int // so many answers are still to come
}

func startLooking(what string, paths []string) (*looking, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoProcess, err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoProcess, err)
	}
	p, err := os.StartProcess("/proc/self/exe", append([]string{lookProgram, what}, paths...), &os.ProcAttr{Dir: "/", Env: []string{}, Files: []*os.File{null, w, null}})
	w.Close()
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("%w: %w", errNoProcess, err)
	}
	return &looking{p, r, bufio.NewReader(r), len(paths)}, nil
}

// answer waits for the next answer, which is about the path, for so long. If it is slow, meanwhile is called once.
func (p *looking) answer(path string, timeout time.Duration, meanwhile func()) (l Look, err error) {
	began := time.Now()
	var line []byte
	for _, until := range []time.Duration{min(lookSlow, timeout), timeout} {
		if err := p.pipe.SetReadDeadline(began.Add(until)); err != nil {
			return l, err
		}
		var more []byte
		more, err = p.said.ReadBytes('\n')
		line = append(line, more...)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if meanwhile != nil {
			meanwhile()
			meanwhile = nil
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return l, ErrMute
	}
	var said saidOfLook
	if err == nil {
		err = json.Unmarshal(line, &said)
	}
	if err != nil {
		return l, fmt.Errorf("%s: the look at it ended without an answer: %w", path, err)
	}
	p.left--
	return said.Look, said.err()
}

// end leaves the process to itself. It may have answered and not come to its end: closing a
// device can take as long as opening one.
func (p *looking) end() {
	p.pipe.Close()
	if p.left > 0 {
		p.process.Kill() // once it can be
	}
	go p.process.Wait()
}

func lookElsewhere(what, path string, timeout time.Duration) (l Look, err error) {
	p, err := startLooking(what, []string{path})
	if err != nil {
		return l, err
	}
	defer p.end()
	return p.answer(path, timeout, nil)
}

// LookAtAll looks at many things. The answers are in the order of the paths.
func LookAtAll(what string, paths []string) []Answer {
	r := round{what: what, paths: paths, answers: make([]Answer, len(paths))}
	if what == "loop" {
		r.look(0, len(paths)) // one process: to ask the kernel for that takes microseconds, to start another, milliseconds
	} else {
		r.share(0, len(paths))
	}
	r.all.Wait()
	return r.answers
}

// round is one look at many things.
type round struct {
	what    string
	paths   []string
	answers []Answer
	all     sync.WaitGroup
}

// share has those from first to last looked at by several processes side by side.
func (r *round) share(first, last int) {
	each := (last - first + lookSlots - 1) / lookSlots
	for from := first; from < last; from += each {
		r.all.Go(func() { r.look(from, min(from+each, last)) })
	}
}

// look has them looked at by one process. When one of them is slow, others take over the rest.
func (r *round) look(first, last int) {
	if first >= last {
		return
	}
	p, err := startLooking(r.what, r.paths[first:last])
	if err != nil {
		for i := first; i < last; i++ {
			r.answers[i].Look, r.answers[i].Err = looked(r.what, r.paths[i], lookTimeout, Look{}, err)
		}
		return
	}
	defer p.end()
	for i := first; i < last; i++ {
		left, others := p.left, false
		l, err := p.answer(r.paths[i], lookTimeout, func() { others = true; r.share(i+1, last) })
		r.answers[i].Look, r.answers[i].Err = looked(r.what, r.paths[i], lookTimeout, l, err)
		if others {
			return
		}
		if p.left == left { // it has ended in the middle
			r.share(i+1, last)
			return
		}
	}
}
