package hammer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/srcrash/internal/rig"
)

// hang is when a call is taken to hang for ever: no lock is waited for half as long.
const hang = 90 * time.Second

// caller makes calls of a plugin, and kills some of them.
type caller struct {
	plugin  rig.Plugin
	start   time.Time
	usual   sync.Map     // method → *atomic.Int64, how long it takes by now, in ns
	slowest atomic.Int64 // ns
	slow    atomic.Value // string, the method of that
}

func (c *caller) now() int64 { return int64(time.Since(c.start)) }

// call makes one call and times it into e. The process is killed after part of the
// time that such calls take; 0 lets it live. What it answers is in out and e.
func (c *caller) call(e *Event, args map[string]any, out any, part float64) error {
	request, err := rig.Request(args)
	if err != nil {
		return err
	}
	p := exec.Command(c.plugin.Path(e.Method), "--json")
	p.Stdin = bytes.NewReader(request)
	p.Env = os.Environ()
	p.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // a Ctrl-C is for us
	var stderr bytes.Buffer
	p.Stderr = &stderr
	var answer bytes.Buffer
	p.Stdout = &answer
	usual := c.usually(e.Method)
	e.Call = c.now()
	if err := p.Start(); err != nil {
		return err
	}
	var killed, hung atomic.Bool // it is being
	watch := time.AfterFunc(hang, func() { hung.Store(true); p.Process.Kill() })
	defer watch.Stop()
	if part > 0 {
		kill := time.AfterFunc(time.Duration(part*float64(usual.Load())), func() { killed.Store(true); p.Process.Kill() })
		defer kill.Stop()
	}
	err = p.Wait()
	e.Return = c.now()
	took := e.Return - e.Call
	usual.Add((took - usual.Load()) / 8)
	if took > c.slowest.Load() {
		c.slowest.Store(took)
		c.slow.Store(e.Method)
	}
	var exit *exec.ExitError
	switch signaled := errors.As(err, &exit) && exit.ExitCode() < 0; {
	case hung.Load():
		return fmt.Errorf("%s: no answer after %v", e.Method, hang)
	case signaled && killed.Load() && exit.Sys().(interface{ Signal() unix.Signal }).Signal() == unix.SIGKILL:
		e.Answer = Killed
		return nil
	}
	err = rig.Judge(e.Method, answer.Bytes(), stderr.Bytes(), err, out)
	var refusal *rig.Refusal
	if !errors.As(err, &refusal) {
		e.Answer = OK
		return err
	}
	e.Answer, e.About = classify(refusal)
	e.Why = refusal.Error()
	return nil
}

func (c *caller) usually(method string) *atomic.Int64 {
	first := new(atomic.Int64)
	first.Store(int64(5 * time.Millisecond))
	usual, _ := c.usual.LoadOrStore(method, first)
	return usual.(*atomic.Int64)
}

// classify names a refusal, and says what it is about.
func classify(r *rig.Refusal) (Answer, string) {
	for name, a := range map[string]Answer{"Volume_does_not_exist": NoVolume, "24": InUse, "1": Invalid, "79": BadSize, "66": NoData, "460": NoCBT} {
		if !r.Named(name) {
			continue
		}
		if a == NoVolume && len(r.Params) > 1 {
			return a, r.Params[1]
		}
		return a, ""
	}
	return Answer(fmt.Sprintf("error %s %q", r.Code, r.Params)), ""
}
