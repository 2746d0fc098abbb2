package srnbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/nbd"
	"reflinksr/internal/repository"
)

// How a mirror goes on, once it has begun. Each round takes a moment of the disk, for which the guest pays; so, once the other side has
// everything but what was written lately, there is one only now and then, and the less often the longer it takes.
const (
	connects  = time.Minute // the other side may take to be there
	rest      = 2 * time.Second
	restShare = 3        // times what the last round took
	small     = 64 << 20 // bytes, of a round after which the other side is said to have everything
	settles   = 20       // rounds after which a guest is said to write more than is sent
)

// away mirrors a disk until it is given back, and returns the process's exit status.
func away(disk repository.Datapath, id string, waiting io.WriteCloser) int {
	ctx, end := settle("uri", string(disk), "mirror", id)
	defer end()
	m, err := disk.Mirroring(ctx, id)
	if err != nil {
		slog.Error("not mirrored", "err", err)
		fmt.Fprint(waiting, err) //nolint:errcheck // whoever waited is gone
		waiting.Close()
		return 1
	}
	a := &mirroring{Mirroring: m, volume: repository.Volume{SR: repository.SR(m.Handle), Key: m.Key}, last: make(chan net.Conn)}
	listener, err := listen(m.Last)
	if err == nil {
		defer listener.Close()
		go a.accept(listener)
		io.WriteString(waiting, repository.ServerListens) //nolint:errcheck // the same
	} else {
		fmt.Fprint(waiting, err) //nolint:errcheck // the same
	}
	waiting.Close()
	slog.Info("mirroring", "remote", m.State.Remote)
	start := time.Now()
	if err == nil {
		err = a.run(ctx)
	}
	if e := m.End(err); err == nil {
		err = e
	}
	a.answer(err)
	if err != nil {
		slog.Error("mirrored no more", "err", err)
		return 1
	}
	slog.Info("mirrored", "took", time.Since(start), "rounds", m.State.Rounds, "bytes", m.State.Copied)
	return 0
}

// listen is a socket for root alone.
func listen(path string) (*net.UnixListener, error) {
	unix.Umask(0o177)
	defer unix.Umask(0o077)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		l.SetUnlinkOnClose(false) // by name it might be another's
	}
	return l, err
}

// mirroring is a mirror under way.
type mirroring struct {
	*repository.Mirroring
	volume repository.Volume
	to     *nbd.Client
	size   int64
	limit  int64         // bytes a second; 0: there is none
	last   chan net.Conn // of who waits until everything is at the other side
	asks   net.Conn
}

func (m *mirroring) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		m.last <- conn
	}
}

// answer tells who has asked that everything was sent, or why not.
func (m *mirroring) answer(err error) {
	if m.asks == nil {
		return
	}
	said := repository.MirrorSent
	if err != nil {
		said = err.Error()
	}
	io.WriteString(m.asks, said) //nolint:errcheck // it may be gone
	m.asks.Close()
}

var errNobody = errors.New("nobody has the disk attached any more")

// run sends all of the disk, and then, in rounds, what was written meanwhile, until somebody asks for the last of it.
func (m *mirroring) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if m.to, err = m.connect(ctx); err != nil {
		return err
	}
	defer m.to.Close()
	defer context.AfterFunc(ctx, func() { m.to.Close() })()
	go func() { cancel(fmt.Errorf("the connection to %s has ended: %w", m.State.Remote, m.to.Wait())) }()
	go func() {
		for range time.Tick(time.Second) {
			if !m.Wanted() {
				cancel(errNobody)
			}
		}
	}()
	if m.limit, err = m.volume.MirrorLimit(ctx); err != nil {
		return fmt.Errorf("the limit of the volume's mirror: %w", err)
	}
	var before *os.File
	defer func() { closeFile(before) }()
	for {
		began := time.Now()
		now, err := m.volume.Moment(ctx, before)
		if err != nil {
			return err
		}
		bytes, err := m.round(ctx, before, now)
		closeFile(before)
		before = now
		if err != nil {
			return causeOf(ctx, err)
		}
		m.State.Rounds++
		if m.State.Rounds > settles && !m.State.Complete {
			return fmt.Errorf("the guest writes more than is sent: %d bytes in the last of %d rounds", bytes, m.State.Rounds)
		}
		m.State.Complete = m.State.Complete || bytes <= small
		if err := m.Tell(false); err != nil {
			return err
		}
		slog.Debug("a round", "bytes", bytes, "took", time.Since(began))
		wait := time.Duration(0) // the sooner it is, the less there is to send
		if m.State.Complete {
			wait = max(rest, restShare*time.Since(began))
		}
		select {
		case m.asks = <-m.last:
			return causeOf(ctx, m.end(ctx, before))
		case <-ctx.Done():
			return causeOf(ctx, ctx.Err())
		case <-time.After(wait):
		}
	}
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}

// causeOf is why ctx ended, if it has: what failed then failed for that.
func causeOf(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return errors.New("it was ended")
}

// end sends what the disk has now that nobody writes to it.
func (m *mirroring) end(ctx context.Context, before *os.File) error {
	now, err := m.Open()
	if err != nil {
		return err
	}
	defer now.Close()
	_, err = m.round(ctx, before, now)
	// The guest may come back, and write past the page cache.
	if e := unix.Fadvise(int(now.Fd()), 0, 0, unix.FADV_DONTNEED); e != nil {
		slog.Warn("what was read of the disk stays in memory", "err", e)
	}
	return err
}

// connect connects to the other side, which may not be there yet.
func (m *mirroring) connect(ctx context.Context) (*nbd.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, connects)
	defer cancel()
	st, err := m.volume.Stat(ctx)
	if err != nil {
		return nil, err
	}
	m.size = st.VirtualSize
	for {
		to, err := nbd.Dial(ctx, "unix", m.Remote.Socket, m.Remote.Name, nbd.Options{})
		switch {
		case err == nil && to.Size() < m.size:
			err = fmt.Errorf("the other side has %d bytes, and the disk %d", to.Size(), m.size)
		case err == nil && to.Flags()&nbd.ReadOnly != 0:
			err = errors.New("the other side can only be read")
		case err == nil:
			return to, nil
		case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED):
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-ctx.Done():
			}
		}
		if to != nil {
			to.Close()
		}
		return nil, fmt.Errorf("mirroring to %s: %w", m.State.Remote, err)
	}
}
