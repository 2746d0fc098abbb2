// Package pool runs scenarios outside Go tests.
package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"reflinksr/scripts/scratch"
)

// Pool runs scenarios side by side, so many at a time. Its tests are testscript's T.
type Pool struct {
	slots   chan struct{}
	running sync.WaitGroup
	verbose bool
	lock    sync.Mutex
	fatal   error // why scenarios could not even be begun
}

// New makes a pool.
func New(jobs int, verbose bool) *Pool {
	return &Pool{slots: make(chan struct{}, jobs), verbose: verbose}
}

// test is one scenario's T, or the T of them all. What becomes of a scenario is told
// by scripts.Config.Done; here it only has to end.
type test struct {
	pool     *Pool
	released chan struct{} // closed when the next may be begun beside this one
	once     sync.Once
	slotted  bool
}

func (p *Pool) root() *test { return &test{pool: p, released: make(chan struct{})} }

// Run begins the scenarios that do begins and says why that failed.
func (p *Pool) Run(do func(testscript.T) error) error {
	var err error
	p.root().Run("", func(t testscript.T) { err = do(t) })
	p.lock.Lock()
	defer p.lock.Unlock()
	return errors.Join(err, p.fatal)
}

// Run begins a scenario and returns when it has ended, or said that it is Parallel.
func (t *test) Run(_ string, do func(testscript.T)) {
	sub := t.pool.root()
	t.pool.running.Add(1)
	go func() { // Fatal and Skip end the goroutine
		defer t.pool.running.Done()
		defer sub.end()
		do(sub)
	}()
	<-sub.released
}

// release lets the next one begin.
func (t *test) release() { t.once.Do(func() { close(t.released) }) }

func (t *test) end() {
	t.release()
	if t.slotted {
		<-t.pool.slots
	}
}

func (t *test) Parallel() {
	t.release()
	t.pool.slots <- struct{}{}
	t.slotted = true
}

func (t *test) Fatal(args ...any) {
	t.pool.lock.Lock()
	t.pool.fatal = errors.New(strings.TrimSpace(fmt.Sprintln(args...)))
	t.pool.lock.Unlock()
	runtime.Goexit()
}

func (t *test) Skip(...any)   { runtime.Goexit() }
func (t *test) FailNow()      { runtime.Goexit() }
func (t *test) Log(...any)    {}
func (t *test) Verbose() bool { return t.pool.verbose }

// Wait returns when all that were begun have ended.
func (p *Pool) Wait() { p.running.Wait() }

// Interruptible is done at the first Ctrl-C or SIGTERM, or when nobody reads what we
// print any more: scenarios then stop and clean up. Another
// Ctrl-C after a second ends us at once.
func Interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, scratch.Endings()...)
	go func() {
		<-signals
		cancel()
		// A terminal's Ctrl-C comes twice: from it, and passed on by our parent.
		time.Sleep(time.Second)
		signal.Reset(scratch.Endings()...)
	}()
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, unix.SIGPIPE) // for good: we go on printing
	go func() {
		// It comes as well when a plugin ends without having read what it was asked.
		for range broken {
			if hungUp(os.Stdout) {
				cancel()
				return
			}
		}
	}()
	return ctx, cancel
}

// hungUp says whether nobody reads what is written to a pipe any more.
func hungUp(f *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(f.Fd())}} // #nosec G115 -- a descriptor
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}
