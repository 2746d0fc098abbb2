package invoke

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// Command is a call to be made.
type Command struct {
	Path    string   // the executable
	Request []byte   // standard input, whatever it is
	Env     []string // as of exec.Cmd; nil: ours

	// Wrap, if not nil, tells the program, and its argv, that runs the executable with its
	// arguments.
	Wrap func(path string, args ...string) (program string, argv []string, err error)

	// Started, if not nil, is told of the process while it runs.
	Started func(p *os.Process)

	// Keep is how many bytes are kept of each output; 0: all.
	Keep int
}

// Delay is how long after a process its output is waited for: a busy host takes a while to hand
// over what was printed.
const Delay = 3 * time.Second

// Run makes the call. When ctx ends, the process and those that it started are killed; they are
// a group of their own, so that a Ctrl-C is for us. That the call failed is told by the output.
func (c Command) Run(ctx context.Context) *Output {
	out := &Output{Stdout: Printed{most: c.Keep}, Stderr: Printed{most: c.Keep}}
	p := exec.CommandContext(ctx, c.Path, "--json") // #nosec G204 -- a plugin's executable
	if c.Wrap != nil {
		program, argv, err := c.Wrap(c.Path, "--json")
		if err != nil {
			out.Err = err
			return out
		}
		p = exec.CommandContext(ctx, program) // #nosec G204 -- what the caller wraps it in
		p.Args = argv
	}
	p.Env = c.Env
	p.Stdin = bytes.NewReader(c.Request)
	p.Stdout, p.Stderr = &out.Stdout, &out.Stderr
	p.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	p.Cancel = func() error { return unix.Kill(-p.Process.Pid, unix.SIGKILL) }
	p.WaitDelay = Delay
	start := time.Now()
	if out.Err = p.Start(); out.Err == nil {
		if c.Started != nil {
			c.Started(p.Process)
		}
		out.Err = p.Wait()
	}
	out.Took = time.Since(start)
	if p.Process != nil {
		out.PID = p.Process.Pid
	}
	return out
}

// Printed is what a process printed, or the beginning of it.
type Printed struct {
	kept        bytes.Buffer // not embedded: its ReadFrom would be used in Write's place
	most, total int
}

// Write keeps what there is room for, and never fails.
func (p *Printed) Write(data []byte) (int, error) {
	p.total += len(data)
	if room := p.most - p.kept.Len(); p.most > 0 && len(data) > room {
		p.kept.Write(data[:max(0, room)])
	} else {
		p.kept.Write(data)
	}
	return len(data), nil
}

// Bytes is what was kept.
func (p *Printed) Bytes() []byte { return p.kept.Bytes() }
