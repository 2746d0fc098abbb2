package main

import (
	"context"
	"log/slog"
	"time"

	"reflinksr/internal/rrd"
)

const (
	interval = 5 * time.Second        // between two readings of the daemon's
	ahead    = 500 * time.Millisecond // of its reading we write, so that what it reads is fresh
	soonest  = 100 * time.Millisecond // nearer than that, it is the next but one
	patience = 5 * time.Second        // after a failure
)

// plugin is what xcp-rrdd sees of us.
type plugin struct {
	daemon   *rrd.Client
	gatherer *gatherer
	file     *rrd.File
	failing  string // what was told of last
}

// run measures until ctx ends. A failure is told once, and tried again: the daemon may not have been started yet.
func (p *plugin) run(ctx context.Context) {
	defer p.gatherer.close()
	defer p.leave()
	for ctx.Err() == nil {
		wait, err := p.turn(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			p.tell(err.Error(), func() { slog.Error("disks have no graphs for now; this is tried again", "err", err) })
			wait = patience
		} else {
			p.tell("", func() { slog.Info("disks have graphs again") })
		}
		p.sleep(ctx, wait)
	}
}

// turn registers, waits for the time, and writes what there is then. It answers how long to wait before the next.
func (p *plugin) turn(ctx context.Context) (time.Duration, error) {
	if err := p.prepare(ctx); err != nil {
		return 0, err
	}
	next, err := p.daemon.Register(ctx)
	if err != nil {
		return 0, err
	}
	p.sleep(ctx, untilWriting(next))
	if ctx.Err() != nil {
		return 0, nil
	}
	sources, err := p.gatherer.gather(ctx)
	if err != nil {
		return 0, err
	}
	return ahead, p.file.Write(time.Now(), sources)
}

// untilWriting is how long to wait if the daemon reads after next.
func untilWriting(next time.Duration) time.Duration {
	wait := next - ahead
	if wait < soonest {
		wait += interval
	}
	return max(soonest, min(wait, interval+ahead))
}

// prepare makes the file, unless it is there. A daemon that has the plugin registered from before has another file open, and would
// keep it.
func (p *plugin) prepare(ctx context.Context) error {
	if p.file != nil && p.file.InPlace() {
		return nil
	}
	if p.file != nil {
		p.file.Close()
		p.file = nil
	}
	path, err := p.daemon.Path(ctx)
	if err != nil {
		return err
	}
	if err := p.daemon.Deregister(ctx); err != nil {
		return err
	}
	p.file, err = rrd.CreateFile(path, time.Now())
	return err
}

// leave ends the graphs: those of disks that nobody measures must not stay as they were.
func (p *plugin) leave() {
	if p.file == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.daemon.Deregister(ctx); err != nil {
		slog.Warn("xcp-rrdd was not told of the end, and finds it out", "err", err)
	}
	if err := p.file.Remove(); err != nil {
		slog.Warn("the file of what was measured stays", "err", err)
	}
}

// tell says something if it is not what was said last.
func (p *plugin) tell(failing string, say func()) {
	if failing != p.failing {
		p.failing = failing
		say()
	}
}

func (p *plugin) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
