package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"reflinksr/cmd/internal/delta"
)

// deltaApply makes a target that holds the one volume hold the other.
func (s *session) deltaApply(ctx context.Context, args []string, destroy bool) error {
	if err := s.mayAnswer(args[1]); err != nil {
		return err
	}
	in, name, err := openStream(args[0])
	if err != nil {
		return err
	}
	defer in.Close()
	size, err := verify(in)
	if err != nil {
		return fmt.Errorf("%s: %w: nothing was written", name, err)
	}
	start := time.Now()
	r, err := delta.NewReader(bufio.NewReaderSize(in, delta.MaxData))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if args[1] == "-" {
		return s.applyToPipe(r, name, size)
	}
	ctx, stop := untilEnded(ctx)
	defer stop()
	t, err := openTarget(args[1], r.Header(), destroy)
	if errors.Is(err, errHolds) {
		// To the end all the same: whoever writes to a pipe is not hung up on, and what is in
		// it may be damaged.
		if err := eachRecord(r, func(delta.Record) error { return nil }); err != nil {
			return fmt.Errorf("%s: %w: nothing was written", name, err)
		}
		if s.json {
			return printJSON(s.out, written{Path: args[1], Key: r.Header().To})
		}
		return s.tell("%s holds volume %s already: nothing was written", args[1], r.Header().To)
	}
	if err != nil {
		return err
	}
	defer t.close()
	wrote, err := endable(ctx, func() (wrote int64, err error) {
		p := newProgress("applying", size)
		defer p.end()
		err = eachRecord(r, func(rec delta.Record) error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			wrote += int64(len(rec.Data))
			p.reach(r.Position())
			return t.put(rec)
		})
		if err == nil {
			err = t.finish()
		}
		return wrote, err
	})
	if err != nil {
		return fmt.Errorf("%s: %w: %s is incomplete now: apply a whole copy of the same stream to %s", name, err, t.name(), args[1])
	}
	if err := t.publish(); err != nil {
		return err
	}
	if s.json {
		return printJSON(s.out, written{Path: args[1], Key: t.header.To, Bytes: wrote, Seconds: time.Since(start).Seconds()})
	}
	return s.tell("%s holds volume %s: %s, of which %s were written in %v", args[1], t.header.To, s.bytes(t.header.ToSize), s.bytes(wrote), time.Since(start).Round(time.Millisecond))
}

// applyToPipe writes the disk that a full stream is of: its records come in order, and leave
// nothing out.
func (s *session) applyToPipe(r *delta.Reader, name string, size int64) error {
	h := r.Header()
	if !h.Full() {
		return fmt.Errorf("%s is what has changed since volume %s, and standard output holds nothing: apply it to a file that does", name, h.From)
	}
	to, err := openStdout(s.out)
	if err != nil {
		return err
	}
	start, p := time.Now(), newProgress("applying", size)
	err = eachRecord(r, func(rec delta.Record) error {
		p.reach(r.Position())
		if rec.Data == nil {
			return to.Zeros(rec.Length)
		}
		_, err := to.Write(rec.Data)
		return err
	})
	p.end()
	if err == nil {
		err = to.End()
	}
	if err != nil {
		return fmt.Errorf("%s: %w: what was written to standard output is incomplete", name, err)
	}
	return said(s.out, "-", "volume %s, %s in %v", h.To, s.bytes(h.ToSize), time.Since(start).Round(time.Millisecond))
}
