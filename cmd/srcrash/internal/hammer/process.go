package hammer

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/internal/smapi"
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
func (c *caller) call(e *Event, r smapi.Request, out any, part float64) error {
	usual := c.usually(e.Method)
	ctx, kill := context.WithCancelCause(context.Background())
	defer kill(nil)
	if part > 0 {
		early := time.AfterFunc(time.Duration(part*float64(usual.Load())), func() { kill(errKilled) })
		defer early.Stop()
	}
	watch := time.AfterFunc(hang, func() { kill(errHung) })
	defer watch.Stop()
	e.Call = c.now()
	printed := c.plugin.Command(r).Run(ctx)
	e.Return = c.now()
	took := e.Return - e.Call
	usual.Add((took - usual.Load()) / 8)
	if took > c.slowest.Load() {
		c.slowest.Store(took)
		c.slow.Store(e.Method)
	}
	var exit *exec.ExitError
	ended := printed.Err == nil || errors.As(printed.Err, &exit) && exit.Exited()
	switch cause := context.Cause(ctx); {
	case !ended && cause == errHung:
		return fmt.Errorf("%s: no answer after %v", e.Method, hang)
	case !ended && cause == errKilled:
		e.Answer = Killed
		return nil
	}
	err := rig.Judge(e.Method, printed, out)
	var refusal *smapi.Failure
	if !errors.As(err, &refusal) {
		e.Answer = OK
		return err
	}
	e.Answer, e.About = classify(refusal)
	e.Why = err.Error()
	return nil
}

// Why a call is killed.
var (
	errKilled = errors.New("killed, to see what is left then")
	errHung   = errors.New("it hangs")
)

func (c *caller) usually(method string) *atomic.Int64 {
	first := new(atomic.Int64)
	first.Store(int64(5 * time.Millisecond))
	usual, _ := c.usual.LoadOrStore(method, first)
	return usual.(*atomic.Int64)
}

// classify names a refusal, and says what it is about.
func classify(r *smapi.Failure) (Answer, string) {
	for name, a := range map[string]Answer{"Volume_does_not_exist": NoVolume, "24": InUse, "1": Invalid, "79": BadSize, "66": NoData, "460": NoCBT} {
		if !r.IsNamed(name) {
			continue
		}
		if a == NoVolume && len(r.Params) > 1 {
			return a, r.Params[1]
		}
		return a, ""
	}
	return Answer(fmt.Sprintf("error %s %q", r.Code, r.Params)), ""
}
