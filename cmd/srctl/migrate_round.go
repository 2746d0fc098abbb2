package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
)

// round takes a snapshot and copies what has changed since the one before; the number of bytes of that.
func (m *move) round(ctx context.Context) (int64, error) {
	stop := busy("taking a snapshot")
	made, err := m.v.SnapshotAs(ctx, repository.Label{
		Name:        named("migration of ", m.disk.Name, time.Now()),
		Description: fmt.Sprintf("made by srctl migrate to %s, and destroyed by that", m.to.where()),
		Keys:        map[string]string{keyMigrate: m.to.where(), keyOf: string(m.v.Key)},
	})
	stop()
	if err != nil {
		return 0, err
	}
	d, err := m.since(ctx, made.Key)
	if err != nil {
		return 0, errors.Join(err, m.drop(made.Key))
	}
	defer d.Data.Close()
	n, err := m.send(ctx, d)
	if err != nil {
		return 0, fmt.Errorf("%w: the same command goes on", err)
	}
	m.rounds, m.bytes = m.rounds+1, m.bytes+n
	note("round %d: %s", m.rounds, m.s.bytes(n))
	return n, nil
}

// since is what a snapshot has that the other side has not.
func (m *move) since(ctx context.Context, key repository.Key) (*repository.Delta, error) {
	stop := busy("comparing")
	defer stop()
	return repository.Volume{SR: m.v.SR, Key: key}.DeltaSince(ctx, m.there.Holds)
}

// send has the other side hold a snapshot. It says there before that it is at it: a repetition of the same is the only thing that
// mends what was interrupted.
func (m *move) send(ctx context.Context, d *repository.Delta) (n int64, err error) {
	if err := m.note(ctx, unfinished{Key: m.there.Key, Holds: m.there.Holds, Writing: d.To}); err != nil {
		return 0, err
	}
	var device struct{ Device string }
	if err := m.to.ask(ctx, &device, nil, "attach", "--json", "--", m.to.sr, string(m.there.Key)); err != nil {
		return 0, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	sent := make(chan error, 1)
	go func() {
		out := &limited{ctx: ctx, to: write, limit: m.limit, begun: time.Now()}
		e := pour(out, d)
		n = out.n
		sent <- errors.Join(e, write.Close())
	}()
	err = m.to.ask(ctx, nil, read, "delta", "apply", "--json", "--overwrite", "--", "-", device.Device)
	read.Close() // so that nobody writes on to nobody
	if e := <-sent; err == nil {
		err = e
	}
	// Also when this was interrupted: nobody else would.
	err = errors.Join(err, m.to.ask(context.WithoutCancel(ctx), nil, nil, "detach", "--", m.to.sr, string(m.there.Key)))
	if err != nil {
		return 0, err
	}
	before := m.there.Holds
	if err := m.note(ctx, unfinished{Key: m.there.Key, Holds: d.To}); err != nil {
		return 0, err
	}
	if before != "" {
		return n, m.drop(before)
	}
	return n, nil
}

// pour writes a delta to a pipe.
func pour(to io.Writer, d *repository.Delta) error {
	b := bufio.NewWriterSize(to, delta.MaxData)
	w, err := delta.NewWriter(b, headerOf(d))
	if err == nil {
		err = writeDelta(w, d)
	}
	if err == nil {
		err = b.Flush()
	}
	return err
}

// limited is a pipe that takes so much a second.
type limited struct {
	ctx   context.Context
	to    io.Writer
	limit int64 // bytes a second; 0: none
	begun time.Time
	n     int64
}

// Write waits until so much may have been written.
func (l *limited) Write(p []byte) (n int, err error) {
	if l.limit > 0 {
		due := l.begun.Add(time.Duration(float64(l.n) / float64(l.limit) * float64(time.Second)))
		select {
		case <-l.ctx.Done():
			return 0, context.Cause(l.ctx)
		case <-time.After(time.Until(due)):
		}
	}
	n, err = l.to.Write(p)
	l.n += int64(n)
	return n, err
}

// drop destroys a snapshot of ours. One that somebody has stays, and is destroyed by the next migration.
func (m *move) drop(key repository.Key) error {
	err := repository.Volume{SR: m.v.SR, Key: key}.Destroy(context.Background())
	if errors.Is(err, fault.ErrInUse) || errors.Is(err, fault.ErrElsewhere) {
		note("snapshot %s stays until the disk is migrated again: %v", key, err)
		return nil
	}
	return err
}

// compare compares what the last round copied by checksum.
func (m *move) compare(ctx context.Context) error {
	here, err := checksumOf(ctx, repository.Volume{SR: m.v.SR, Key: m.there.Holds})
	if err != nil {
		return err
	}
	var there struct{ Checksum string }
	stop := busy("comparing checksums")
	err = m.to.ask(ctx, &there, nil, "checksum", "--json", "--", m.to.sr, string(m.there.Key))
	stop()
	if err != nil {
		return err
	}
	if there.Checksum != here {
		return fault.Hint(fmt.Errorf("volume %s at %s does not hold what snapshot %s holds (checksum %.16s, here %.16s): somebody has written to it, or what carried it has lied", m.there.Key, m.to.where(), m.there.Holds, there.Checksum, here),
			"destroy volume %s there, and migrate again", m.there.Key)
	}
	return nil
}
