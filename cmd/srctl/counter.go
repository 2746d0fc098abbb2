package main

import (
	"context"
	"sync"
	"time"

	"reflinksr/internal/repository"
)

// counter counts extents of disks beside all else, one after the other, so seldom that it costs little.
type counter struct {
	mu     sync.Mutex
	wanted []repository.Volume
	known  map[repository.Volume]counted
	failed chan any // of what it would have died
}

// counted is what was found of a disk.
type counted struct {
	at      time.Time // when it was looked at last
	found   bool
	extents int
	next    repository.NextSnapshot
}

const (
	countEvery  = 10 * time.Second // at most, each disk
	countShare  = 50               // a part of the time, of which one is for counting
	countLonger = 5 * time.Minute  // that a disk takes ends: it has none
)

func newCounter(ctx context.Context) *counter {
	c := &counter{known: map[repository.Volume]counted{}, failed: make(chan any, 1)}
	go c.run(ctx)
	return c
}

// count says which disks there are.
func (c *counter) count(wanted []repository.Volume) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wanted = wanted
	kept := map[repository.Volume]counted{}
	for _, v := range wanted {
		if k, ok := c.known[v]; ok {
			kept[v] = k
		}
	}
	c.known = kept
}

// of is what is known of a disk.
func (c *counter) of(v repository.Volume) (counted, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.known[v]
	return k, k.found
}

// due is the disk that was not looked at for the longest time, if that is long enough.
func (c *counter) due() (v repository.Volume, first, is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldest := time.Time{}
	for _, w := range c.wanted {
		if k := c.known[w]; !is || k.at.Before(oldest) {
			v, oldest, is = w, k.at, true
		}
	}
	return v, oldest.IsZero(), is && time.Since(oldest) >= countEvery
}

func (c *counter) run(ctx context.Context) {
	defer func() {
		if what := recover(); what != nil {
			c.failed <- what // where the terminal is given back
		}
	}()
	for {
		wait := leastInterval
		if v, first, is := c.due(); is {
			begun := time.Now()
			once, cancel := context.WithTimeout(ctx, countLonger)
			extents, next, err := v.Forecast(once)
			cancel()
			took := time.Since(begun)
			c.mu.Lock()
			c.known[v] = counted{at: time.Now(), found: err == nil, extents: extents, next: next}
			c.mu.Unlock()
			wait = (countShare - 1) * took
			if first { // nothing is known yet: half of the time
				wait = took
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
