package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
)

// An SR whose disk or server does not answer keeps whoever looks at it, for ever perhaps. In XFS not even SIGKILL ends
// that wait, and no process ends of which one thread waits so. So who looks at all SRs of this host has each looked at by a
// process of its own, side by side, which has nothing of ours but a pipe, and which is left to itself when it does not answer in time.

const (
	// patience is how long an SR may take to say what it is like.
	patience = 10 * time.Second
	// handover is how long the answer of one may take on its way.
	handover = time.Second
	// lookerProgram is the name by which this program is such a process.
	lookerProgram = "srctl-look"
)

// errMute is the answer of an SR that gives none.
var errMute = errors.New("does not answer")

// patienceOf is how long an SR may take for what is to end within some time.
func patienceOf(within time.Duration) time.Duration { return max(within, patience) }

// partOf is how much of that it has for what can be ended early, so that what was found until then is told.
func partOf(within time.Duration) time.Duration { return within / 10 * 9 }

// inquiry is a look at one thing by another process.
type inquiry struct {
	What   string        // of lookers
	About  string        // an SR's handle, or what a person calls it
	Within time.Duration // for what takes as long as it may
	Bound  time.Duration // then nobody waits any more
}

// lookers are the looks that there are.
var lookers = map[string]func(ctx context.Context, s *session, i inquiry) (any, error){
	"stat": func(ctx context.Context, _ *session, i inquiry) (any, error) { return repository.SR(i.About).Stat(ctx) },
	"doctor": func(ctx context.Context, _ *session, i inquiry) (any, error) {
		return lookAtSR(ctx, repository.SR(i.About))
	},
	"support": func(ctx context.Context, _ *session, i inquiry) (any, error) {
		return supportOf(ctx, repository.SR(i.About), i.Within)
	},
	"metrics": func(ctx context.Context, _ *session, i inquiry) (any, error) {
		return repository.SR(i.About).Metrics(ctx, i.Within)
	},
	"volumes": func(ctx context.Context, s *session, i inquiry) (any, error) {
		sr, err := s.at(ctx, i.About)
		if err != nil {
			return nil, err
		}
		return sr.List(ctx)
	},
}

// found is what such a process says.
type found struct {
	Value json.RawMessage
	Err   string // why there is no value
	Gone  bool   // that is fault.ErrNotAttached
	Log   string
}

// It is not left to main to ask for that: tests are such processes, too.
func init() {
	if len(os.Args) != 2 || os.Args[0] != lookerProgram {
		return
	}
	var i inquiry
	if err := json.Unmarshal([]byte(os.Args[1]), &i); err != nil || lookers[i.What] == nil {
		os.Exit(2)
	}
	time.AfterFunc(i.Bound, func() {
		markMute()
		os.Exit(1) // as soon as it can
	})
	var log bytes.Buffer
	slog.SetDefault(slog.New(warnings{out: &log}))
	said := found{}
	s := new(session)
	v, err := lookers[i.What](context.Background(), s, i)
	if err == nil {
		said.Value, err = json.Marshal(v)
	}
	if err != nil {
		path, _ := repository.SR(i.About).Path()
		said.Err, said.Gone = repository.Explain(path, err).Error(), errors.Is(err, fault.ErrNotAttached)
	}
	said.Log = log.String()
	if json.NewEncoder(os.Stdout).Encode(said) != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// noteFD is where such a process has the note that its SR is attached.
const noteFD = 3

// markMute says, for as long as this process is there, that its SR does not answer: a lock ends with whoever has it.
func markMute() {
	_ = unix.Flock(noteFD, unix.LOCK_EX|unix.LOCK_NB) // fails if another has said so
}

// isMute says whether a process that waits for the SR still has said so: then it is not asked again, or processes would
// pile up.
func isMute(note *os.File) bool {
	if unix.Flock(int(note.Fd()), unix.LOCK_SH|unix.LOCK_NB) == unix.EWOULDBLOCK {
		return true
	}
	_ = unix.Flock(int(note.Fd()), unix.LOCK_UN) // or it has none
	return false
}

// askElsewhere has another process look.
func askElsewhere[T any](i inquiry) (v T, err error) {
	arg, err := json.Marshal(i)
	if err != nil {
		return v, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return v, err
	}
	defer null.Close()
	note := null
	if f, err := os.Open(repository.SR(i.About).Note()); err == nil {
		defer f.Close()
		if isMute(f) {
			return v, mute(i.About, "a process that looked at it before still waits")
		}
		note = f
	}
	r, w, err := os.Pipe()
	if err != nil {
		return v, err
	}
	defer r.Close()
	p, err := os.StartProcess("/proc/self/exe", []string{lookerProgram, string(arg)}, &os.ProcAttr{Env: os.Environ(), Files: []*os.File{null, w, null, note}})
	w.Close()
	if err != nil {
		return v, err
	}
	go p.Wait()
	begun := time.Now()
	if err := r.SetReadDeadline(begun.Add(i.Bound + handover)); err != nil {
		return v, err
	}
	var said found
	err = json.NewDecoder(r).Decode(&said)
	switch {
	case err != nil && time.Since(begun) >= i.Bound:
		return v, mute(i.About, fmt.Sprintf("nothing was heard of it for %v", i.Bound))
	case err != nil:
		return v, fmt.Errorf("%s: the look at it ended without an answer: %w", pathOrText(i.About), err)
	}
	fmt.Fprint(messages, said.Log)
	switch {
	case said.Gone:
		return v, fault.Errorf(fault.ErrNotAttached, i.About, "%s", said.Err)
	case said.Err != "":
		return v, errors.New(said.Err)
	}
	return v, json.Unmarshal(said.Value, &v)
}

// mute says that an SR does not answer, and how that shows.
func mute(about, because string) error {
	return fault.Hint(fault.Errorf(fault.ErrUnavailable, about, "SR %s %w: %s; it waits for its disk or its server", pathOrText(about), errMute, because),
		"look at the kernel's log")
}

// pathOrText is how a person knows an SR: by its path.
func pathOrText(about string) string {
	if path, err := repository.SR(about).Path(); err == nil {
		return path
	}
	return about
}

// answerOf is what one of several SRs says.
type answerOf[T any] struct {
	sr    repository.SR
	value T
	err   error
}

// askAll has SRs looked at side by side.
func askAll[T any](srs []repository.SR, what string, within, bound time.Duration) []answerOf[T] {
	all := make([]answerOf[T], len(srs))
	var done sync.WaitGroup
	for n, sr := range srs {
		done.Go(func() {
			all[n].sr = sr
			all[n].value, all[n].err = askElsewhere[T](inquiry{what, string(sr), within, bound})
		})
	}
	done.Wait()
	return all
}

// askHost has the SRs of this host looked at so. One that is detached meanwhile is none of them.
func askHost[T any](srs []repository.SR, what string, within, bound time.Duration) []answerOf[T] {
	return slices.DeleteFunc(askAll[T](srs, what, within, bound), func(a answerOf[T]) bool { return errors.Is(a.err, fault.ErrNotAttached) })
}

// answering leaves the SRs that answer: the others are the error.
func answering(srs []repository.SR) (some []repository.SR, failed error) {
	for _, answer := range askHost[repository.SRStat](srs, "stat", 0, patience) {
		if answer.err != nil {
			failed = errors.Join(failed, answer.err)
			continue
		}
		some = append(some, answer.sr)
	}
	return some, failed
}
