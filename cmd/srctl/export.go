package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"reflinksr/internal/image"
	"reflinksr/internal/repository"
)

func (s *session) export() *cobra.Command {
	format := ""
	c := s.takes(s.answersJSON(command("export SR VOLUME FILE", "copy a volume, as it is at one moment, to a sparse file",
		`export copies a volume, as it is at one moment, to a new sparse file outside of any
SR, or to a pipe (-). The volume may be in use: a snapshot is copied that lasts as
long as the copying does. The file has its name when it is whole.

The file is raw, or qcow2 (version 3), or a dynamic VHD: as --format says, else as
its name ends. A pipe takes only raw.`,
		`  srctl export tank web /backup/web.raw
  srctl export tank web /backup/web.qcow2
  srctl export --format vhd tank web /backup/web.disk
  srctl export tank web - | zstd > /backup/web.raw.zst`, 3, 3, func(ctx context.Context, args []string) error { return s.exportDisk(ctx, args, format) })), anSR, aVolume, aFile)
	c.Flags().StringVar(&format, "format", "", "`FORMAT`: "+strings.Join(image.Writable, ", "))
	offers(c, "format", image.Writable)
	return c
}

// offers lets shells complete the value of a flag.
func offers(c *cobra.Command, flag string, values []string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag
	}
}

// formatFor is the format that a file is to have.
func formatFor(target, said string) (string, error) {
	format := said
	if format == "" {
		format = "raw"
		if extension := strings.TrimPrefix(filepath.Ext(target), "."); slices.Contains(image.Writable, extension) {
			format = extension
		}
	}
	switch {
	case !slices.Contains(image.Writable, format):
		return "", misused("%q is no format that can be written: %s are", format, strings.Join(image.Writable, ", "))
	case target == "-" && format != "raw":
		return "", misused("%s cannot be written to a pipe: what its beginning says is known in the end only: give a file", format)
	}
	return format, nil
}

// exportDisk copies a snapshot that lasts as long as the copying does.
func (s *session) exportDisk(ctx context.Context, args []string, format string) error {
	target := args[2]
	format, err := formatFor(target, format)
	if err != nil {
		return err
	}
	v, err := s.volumeAt(ctx, args[0], args[1])
	if err != nil {
		return err
	}
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
			size, err = exportVolume(ctx, v, func(int64) (repository.Sink, error) { return to, nil })
		}
	} else {
		size, err = exportVolumeTo(ctx, v, target, format)
	}
	if err != nil {
		return err
	}
	return s.wrote(target, written{Path: target, Key: v.Key, Bytes: size, Seconds: time.Since(start).Seconds()})
}

// exportVolumeTo writes beside the file, and gives it its name when it is whole.
func exportVolumeTo(ctx context.Context, v repository.Volume, target, format string) (size int64, err error) {
	partial, err := openPartial(target)
	if err != nil {
		return 0, err
	}
	defer partial.Close()
	if err = partial.Truncate(0); err == nil { // whatever an interrupted export left
		size, err = exportVolume(ctx, v, func(size int64) (repository.Sink, error) { return image.NewWriter(partial, format, size) })
	}
	if err != nil {
		os.Remove(partial.Name())
		return 0, err
	}
	return size, rename(partial.Name(), target)
}

// exportVolume copies a volume. Who is ended takes its snapshot along.
func exportVolume(ctx context.Context, v repository.Volume, begin func(size int64) (repository.Sink, error)) (size int64, err error) {
	ctx, stop := untilEnded(ctx)
	defer stop()
	err = withProgress(ctx, "exporting", func(moved func(done, total int64)) error {
		size, err = v.ExportTo(ctx, begin, moved)
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
