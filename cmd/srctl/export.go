package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"reflinksr/internal/repository"
)

func (s *session) export() *cobra.Command {
	return s.takes(s.answersJSON(command("export SR VOLUME FILE", "copy a volume, as it is at one moment, to a sparse file",
		`export copies a volume, as it is at one moment, to a new sparse file outside of any
SR, or to a pipe (-). The volume may be in use: a snapshot is copied that lasts as
long as the copying does. The file has its name when it is whole.`,
		`  srctl export /srv/tank $KEY /backup/disk.raw
  srctl export /srv/tank $KEY - | zstd > /backup/disk.raw.zst`, 3, 3, s.exportDisk)), anSR, aVolume, aFile)
}

// exportDisk copies a snapshot that lasts as long as the copying does.
func (s *session) exportDisk(ctx context.Context, args []string) error {
	v, err := s.volumeAt(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	target := args[2]
	if err := s.mayAnswer(target); err != nil {
		return err
	}
	if err := mayMake(target); err != nil {
		return err
	}
	start := time.Now()
	var size int64
	if target == "-" {
		var to *stream
		if to, err = openStdout(s.out); err == nil {
			size, err = exportVolume(ctx, v, to)
		}
	} else {
		size, err = exportVolumeTo(ctx, v, target)
	}
	if err != nil {
		return err
	}
	return s.wrote(target, written{Path: target, Key: v.Key, Bytes: size, Seconds: time.Since(start).Seconds()})
}

// exportVolumeTo writes beside the file, and gives it its name when it is whole.
func exportVolumeTo(ctx context.Context, v repository.Volume, target string) (size int64, err error) {
	partial, err := openPartial(target)
	if err != nil {
		return 0, err
	}
	defer partial.Close()
	if err = partial.Truncate(0); err == nil { // whatever an interrupted export left
		size, err = exportVolume(ctx, v, &stream{Writer: partial, file: partial, holes: true})
	}
	if err != nil {
		os.Remove(partial.Name())
		return 0, err
	}
	return size, rename(partial.Name(), target)
}

// exportVolume copies a volume. Who is ended takes its snapshot along.
func exportVolume(ctx context.Context, v repository.Volume, to *stream) (size int64, err error) {
	ctx, stop := untilEnded(ctx)
	defer stop()
	err = withProgress(ctx, "exporting", func(moved func(done, total int64)) error {
		size, err = v.Export(ctx, to, moved)
		return err
	})
	return size, err
}

// withProgress shows how far do is.
func withProgress(ctx context.Context, what string, do func(moved func(done, total int64)) error) error {
	var p *progress
	err := do(func(done, total int64) {
		if p == nil {
			p = newProgress(what, total)
		}
		p.reach(done)
		if done == total {
			p.end()
		}
	})
	if err != nil && ctx.Err() == nil && p != nil { // else it may go on yet, and change p
		p.end()
	}
	return err
}

// untilEnded is ctx until the process is told to end; the cause says so.
func untilEnded(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	go func() {
		select {
		case s := <-interrupted:
			cancel(fmt.Errorf("ended by %v", s))
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(interrupted)
		cancel(nil)
	}
}
