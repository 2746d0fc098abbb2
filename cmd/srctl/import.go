package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"reflinksr/internal/fault"
	"reflinksr/internal/image"
	"reflinksr/internal/overwrite"
	"reflinksr/internal/repository"
)

// importing is what is said of an image that is to be imported.
type importing struct {
	name, description, format, snapshot string
	follow                              bool
}

func (s *session) importing() *cobra.Command {
	var i importing
	c := s.takes(s.answersJSON(command("import [SR] FILE", "make a disk of an image (raw, qcow2, VHD, VMDK); prints its key",
		`import makes a writable disk of what an image holds: raw, qcow2 (of version 2 and 3,
also compressed, with the files below it, or a snapshot in it), VHD (fixed, dynamic,
differencing with its parents) or VMDK. The SR may be left out where only one is
attached. FILE can be a block device, or - for a pipe.

Zeros take no space. Until all of it is there and durable, there is no disk: what is
interrupted leaves nothing, and begins anew.

Without --format the contents tell what it is. But what a raw disk holds a guest
wrote, and may look like an image which names files of this host; so one that
names others is followed only if its name ends as its format is called, or
--format says so. And only to files that are in its directory or below it: whoever
made it chose their names. If you trust the image, --follow follows it anywhere,
and tells of each file.

From a pipe raw is written as it comes; of another format a copy is kept until it
has ended, without a name, on the SR's filesystem.`,
		`  srctl import tank debian-12.qcow2 --name debian
  srctl import tank --snapshot before-upgrade old.qcow2
  srctl import disk.vmdk
  srctl import --follow tank /srv/web/overlay.qcow2
  xz -dc disk.raw.xz | srctl import tank - --name web`, 1, 2,
		func(ctx context.Context, args []string) error { return s.importDisk(ctx, args, i) })), anSR, aFile)
	c.Flags().StringVar(&i.name, "name", "", "the disk's `NAME`, instead of the file's")
	c.Flags().StringVar(&i.description, "description", "", "a `TEXT` about it")
	c.Flags().StringVar(&i.format, "format", "", "`FORMAT` of the image, instead of what its contents tell: "+strings.Join(image.Formats, ", "))
	c.Flags().StringVar(&i.snapshot, "snapshot", "", "what a `SNAPSHOT` in a qcow2 image holds, by its name or number")
	c.Flags().BoolVar(&i.follow, "follow", false, "read the files that the image names wherever they are, and tell of each")
	offers(c, "format", image.Formats)
	return c
}

// importDisk makes a disk of an image.
func (s *session) importDisk(ctx context.Context, args []string, i importing) error {
	path := args[len(args)-1]
	o := image.Options{Format: i.format, Snapshot: i.snapshot, Anywhere: i.follow, MayRead: overwrite.MayRead()}
	sr, err := s.intoSR(ctx, args[:len(args)-1])
	if err != nil {
		return err
	}
	ctx, stop := untilEnded(ctx)
	defer stop()
	var made repository.VolumeStat
	err = withProgress(ctx, "importing", func(moved func(done, total int64)) error {
		n := repository.NewVolume{Name: i.name, Description: i.description}
		if path == "-" {
			made, err = fromPipe(ctx, sr, n, os.Stdin, o, moved)
			return err
		}
		if n.Name == "" {
			n.Name = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
		}
		m, err := image.Open(ctx, path, o)
		if err != nil {
			return err
		}
		if i.follow {
			for _, other := range m.Others() {
				note("%q is read as well, since %q leads to it", other, path)
			}
		}
		made, err = fromImage(ctx, sr, n, m, moved)
		return err
	})
	return s.made(made, beginsAnew(ctx, err))
}

// intoSR is the SR that is named, or the only one.
func (s *session) intoSR(ctx context.Context, named []string) (repository.SR, error) {
	if len(named) > 0 {
		return s.at(ctx, named[0])
	}
	known, err := repository.KnownSRs(ctx)
	if err != nil {
		return "", err
	}
	if len(known) != 1 {
		return "", fault.Hint(misused("%d SRs are attached on this host, so one has to be named", len(known)), "srctl ls lists them")
	}
	return s.at(ctx, known[0].Path)
}

// fromImage makes a disk of an image, which it closes.
func fromImage(ctx context.Context, sr repository.SR, n repository.NewVolume, m *image.Image, moved func(done, total int64)) (repository.VolumeStat, error) {
	defer m.Close()
	n.Size = m.Size()
	return sr.Import(ctx, n, func(to repository.Sink) error { return m.CopyTo(ctx, to, moved) })
}

// fromPipe makes a disk of what comes.
func fromPipe(ctx context.Context, sr repository.SR, n repository.NewVolume, from *os.File, o image.Options, moved func(done, total int64)) (repository.VolumeStat, error) {
	in := bufio.NewReaderSize(from, 64<<10)
	begin := make(chan []byte, 1)
	go func() { // which may take as long as it likes
		p, _ := in.Peek(512) // an error comes again
		begin <- p
	}()
	guessed := o.Format == ""
	select {
	case p := <-begin:
		if guessed {
			o.Format = image.Begins(p)
		}
	case <-ctx.Done():
		return repository.VolumeStat{}, context.Cause(ctx)
	}
	if o.Format == "" || o.Format == "raw" {
		if o.Snapshot != "" {
			return repository.VolumeStat{}, misused("a raw disk has no snapshots")
		}
		n.Size = -1
		return sr.Import(ctx, n, func(to repository.Sink) error { return image.Copy(ctx, to, in, guessed, moved) })
	}
	spool, err := sr.Spool(ctx)
	if err != nil {
		return repository.VolumeStat{}, err
	}
	defer spool.Close()
	size, err := fill(ctx, spool, in)
	if err != nil {
		return repository.VolumeStat{}, err
	}
	m, err := image.OpenAt(spool, size, "standard input", o)
	if err != nil {
		return repository.VolumeStat{}, err
	}
	return fromImage(ctx, sr, n, m, moved)
}

// fill writes all that comes into a file, and says how much that was. Who is ended does not wait for more.
func fill(ctx context.Context, to io.WriterAt, from io.Reader) (size int64, err error) {
	done := make(chan error, 1)
	go func() {
		size, err = io.Copy(io.NewOffsetWriter(to, 0), from)
		done <- err
	}()
	select {
	case err := <-done:
		return size, err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}
