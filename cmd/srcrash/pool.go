package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/srcrash/internal/calls"
	"reflinksr/cmd/srcrash/internal/disk"
	"reflinksr/cmd/srcrash/internal/explore"
	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/scripts/owned"
)

// job is one subject on one kind of filesystem.
type job struct {
	Subject string
	FS      string
	Plan    explore.Plan
}

// report is what a worker tells: a verdict, or that a job is over.
type report struct {
	Verdict *explore.Verdict `json:",omitempty"`
	Over    bool             `json:",omitempty"`
	Err     string           `json:",omitempty"`
}

// pool explores jobs in worker processes, each with mounts and a host of its own:
// ptrace answers to one thread, and what a kill leaves mounted goes with the worker.
type pool struct {
	dir     string // for the images
	plugin  rig.Plugin
	workers int
}

// run explores the jobs and hands over the verdicts, one at a time. An error means
// that something was not explored.
func (p pool) run(jobs []job, verdict func(explore.Verdict), over func(job)) error {
	todo := make(chan job)
	var wait sync.WaitGroup
	var mutex sync.Mutex
	var failed error
	fail := func(err error) {
		mutex.Lock()
		failed = errors.Join(failed, err)
		mutex.Unlock()
	}
	for i := range p.workers {
		wait.Go(func() {
			w, err := p.start(i)
			if err != nil {
				fail(err)
			}
			for j := range todo {
				if w == nil {
					continue // said already
				}
				err := w.explore(j, func(v explore.Verdict) {
					mutex.Lock()
					defer mutex.Unlock()
					verdict(v)
				})
				if err != nil {
					fail(err)
				}
				mutex.Lock()
				over(j)
				mutex.Unlock()
			}
			if w != nil {
				if err := w.stop(); err != nil {
					fail(err)
				}
			}
		})
	}
	for _, j := range jobs {
		todo <- j
	}
	close(todo)
	wait.Wait()
	return failed
}

// worker is a worker process.
type worker struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

func (p pool) start(i int) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(p.dir, fmt.Sprintf("worker-%d", i))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	w := &worker{command: exec.Command(self, "worker", dir, p.plugin.Volume, p.plugin.Datapath)}
	w.command.Stderr = os.Stderr
	w.command.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGTERM}
	if w.in, err = w.command.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.out = bufio.NewReader(out)
	if err := w.command.Start(); err != nil {
		return nil, err
	}
	running.Store(w, true)
	return w, nil
}

// running are the workers that have been started and not stopped.
var running sync.Map

// endWorkers has every worker clean up and end.
func endWorkers() {
	running.Range(func(w, _ any) bool { w.(*worker).command.Process.Signal(unix.SIGTERM); return true })
	running.Range(func(w, _ any) bool { w.(*worker).command.Process.Wait(); return true })
}

// explore has one job done.
func (w *worker) explore(j job, verdict func(explore.Verdict)) error {
	if err := json.NewEncoder(w.in).Encode(j); err != nil {
		return err
	}
	for {
		line, err := w.out.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("%s on %s: the worker ended: %w", j.Subject, j.FS, err)
		}
		var r report
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("%s on %s: the worker said %q", j.Subject, j.FS, line)
		}
		if r.Verdict != nil {
			verdict(*r.Verdict)
		}
		if r.Over {
			if r.Err != "" {
				return errors.New(r.Err)
			}
			return nil
		}
	}
}

func (w *worker) stop() error {
	running.Delete(w)
	w.in.Close()
	return w.command.Wait()
}

// endingTimeout is how long a call that was killed may take to go: it may be in the middle of a system call, on a busy machine.
const endingTimeout = 30 * time.Second

// endCalls kills the calls that this process has started, waits until they are gone, and lets none begin: for a process that is about
// to end. A call that goes on could still make a device.
func endCalls() {
	syscall.ForkLock.RLock() // and keeps it: whoever starts a process needs it alone
	ours := owned.ChildOf(os.Getpid())
	for end := time.Now().Add(endingTimeout); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		left := slices.DeleteFunc(owned.Processes(ours), owned.Ended)
		if len(left) == 0 {
			return
		}
		for _, pid := range left {
			owned.Signal(pid, unix.SIGKILL, ours)
		}
	}
}

// work is the worker process: jobs on standard input, reports on standard output.
func work(args []string, out io.Writer) error {
	if len(args) != 3 {
		return errors.New("this is what other commands start")
	}
	host, err := calls.NewHost(rig.Plugin{Volume: args[1], Datapath: args[2]}, args[0])
	if err != nil {
		return err
	}
	shelf, err := disk.NewShelf(args[0])
	if err != nil {
		return err
	}
	defer shelf.Remove()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	go func() {
		<-signals
		// The mounts go with this process, devices would not.
		disk.Stop()
		endCalls()
		host.Release()
		os.Exit(1)
	}()
	engines := map[string]*explore.Engine{}
	subjects := map[string]explore.Subject{}
	for _, s := range calls.Subjects(host) {
		subjects[s.Name()] = s
	}
	jobs, reports := json.NewDecoder(os.Stdin), json.NewEncoder(out)
	for {
		var j job
		if err := jobs.Decode(&j); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if engines[j.FS] == nil {
			engines[j.FS] = &explore.Engine{Shelf: shelf, Kind: j.FS, Dir: host.Dir, Prefix: j.FS}
		}
		r := report{Over: true}
		err := engines[j.FS].Explore(subjects[j.Subject], j.Plan, func(v explore.Verdict) {
			reports.Encode(report{Verdict: &v})
		})
		if err != nil {
			r.Err = err.Error()
		}
		if err := reports.Encode(r); err != nil {
			return err
		}
	}
}
