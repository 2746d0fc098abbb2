package hammer

import (
	"sync"
	"time"
)

// guest writes to a volume's device while somebody makes a copy of the volume: then
// it matters what is in the copy.
type guest struct {
	stop    chan struct{}
	done    sync.WaitGroup
	history []*Event
}

// writesPerCopy is how many writes a copy has to be one moment among.
const writesPerCopy = 16

// boot starts the guest of a worker's session.
func (w *worker) boot(i int) *guest {
	g := &guest{stop: make(chan struct{})}
	s, domain := w.sessions[i], w.domain(i)
	g.done.Go(func() {
		for {
			if w.copying.some(s.key) {
				g.history = append(g.history, w.writeBlock(s, domain))
			}
			select {
			case <-g.stop:
				return
			case <-time.After(max(100*time.Microsecond, time.Duration(w.usually("Volume.snapshot").Load())/writesPerCopy)):
			}
		}
	})
	return g
}

// halt stops the guest, and returns what it did.
func (g *guest) halt() []*Event {
	if g == nil {
		return nil
	}
	close(g.stop)
	g.done.Wait()
	return g.history
}

// copies counts the calls under way that copy each volume.
type copies struct {
	mutex sync.Mutex
	calls map[string]int
}

// of counts a call, if it copies, until done is called.
func (c *copies) of(method, key string) (done func()) {
	if method != "Volume.snapshot" && method != "Volume.clone" {
		return func() {}
	}
	c.add(key, 1)
	return func() { c.add(key, -1) }
}

func (c *copies) add(key string, n int) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.calls == nil {
		c.calls = map[string]int{}
	}
	if c.calls[key] += n; c.calls[key] == 0 {
		delete(c.calls, key)
	}
}

func (c *copies) some(key string) bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.calls[key] > 0
}
