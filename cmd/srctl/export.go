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

	"reflinksr/internal/fault"
	"reflinksr/internal/image"
	"reflinksr/internal/repository"
)

func (s *session) export() *cobra.Command {
	format := ""
	c := s.takes(s.answersJSON(command("export SR VOLUME FILE", "copy a volume as it is at one moment to a raw, qcow2 or VHD file",
		`export copies a volume, as it is at one moment, to a new sparse file outside of any
SR, or to a pipe (-). The volume may be in use: a snapshot is copied that lasts as
long as the copying does. The file has its name when it is whole.

The file is raw, or qcow2 (version 3), or a dynamic VHD: as --format says, else as
its name ends. A pipe takes only raw.

What is interrupted is in FILE.partial, and the same command goes on there if VOLUME
is a snapshot, after reading what is there. A disk that can be written to may hold
something else by then: it begins anew.`,
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
		switch extension := strings.ToLower(strings.TrimPrefix(filepath.Ext(target), ".")); {
		case slices.Contains(image.Writable, extension):
			format = extension
		case slices.Contains([]string{"qcow", "vpc", "vmdk", "vhdx", "vdi", "qed"}, extension):
			return "", misused("%s files are not written here: say --format %s, or give the file another name", extension, strings.Join(image.Writable, ", "))
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
			size, err = exportVolume(ctx, v, func(context.Context, int64) (repository.Sink, int64, error) { return to, 0, nil })
		}
	} else {
		size, err = s.exportVolumeTo(ctx, v, target, format)
	}
	if err != nil {
		return err
	}
	return s.wrote(target, written{Path: target, Key: v.Key, Bytes: size, Seconds: time.Since(start).Seconds()})
}

// exportVolumeTo writes beside the file, and gives it its name when it is whole.
func (s *session) exportVolumeTo(ctx context.Context, v repository.Volume, target, format string) (size int64, err error) {
	st, err := v.Stat(ctx)
	if err != nil {
		return 0, err
	}
	of := noteOf{Key: v.Key}
	if !st.ReadWrite {
		if of, err = s.noteFor(v); err != nil {
			return 0, err
		}
	}
	partial, err := openPartial(target)
	if err != nil {
		return 0, err
	}
	defer partial.Close()
	n := &noting{f: partial, of: of, changes: st.ReadWrite}
	size, err = exportVolume(ctx, v, func(ctx context.Context, size int64) (repository.Sink, int64, error) {
		return n.begin(ctx, format, size)
	})
	if err != nil {
		return 0, n.abandoned(err)
	}
	if err := rename(partial.Name(), target); err != nil {
		return 0, err
	}
	return size, n.forget()
}

// exportVolume copies a volume. Who is ended takes its snapshot along.
func exportVolume(ctx context.Context, v repository.Volume, begin func(ctx context.Context, size int64) (repository.Sink, int64, error)) (size int64, err error) {
	ctx, stop := untilEnded(ctx)
	defer stop()
	err = withProgress(ctx, "exporting", func(moved func(done, total int64)) error {
		size, err = v.ExportTo(ctx, func(size int64) (repository.Sink, int64, error) { return begin(ctx, size) }, moved)
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

// endable does something until ctx ends, and then does not wait for it: the process ends, whatever that is writing.
func endable[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := do()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return *new(T), context.Cause(ctx)
	}
}

// beginsAnew says of what was ended that there is nothing of it.
func beginsAnew(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return fault.Hint(err, "no disk was made, and nothing is left of it: the same command begins anew")
	}
	return err
}

// isThere says whether there is a file of that name.
func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
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
