package repository

import (
	"context"
	"errors"
	"io"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/filesystem"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Import makes a writable volume of n.Size bytes of what give gives to a sink, or, of -1, of as many as it gives. Until all of it is
// there and durable there is no volume. If give fails, or ctx ends, nothing is left behind; then it is not waited for, and uses the
// sink for nothing.
func (s SR) Import(ctx context.Context, n NewVolume, give func(Sink) error) (VolumeStat, error) {
	if err := context.Cause(ctx); err != nil {
		return VolumeStat{}, err
	}
	abandoned := func(to Sink) error { return abandoning(ctx, func() error { return give(to) }) }
	if n.Size >= 0 {
		return s.CreateFrom(ctx, n, abandoned)
	}
	r := &volume.Record{Name: n.Name, Description: n.Description, ReadWrite: true, Sharable: n.Sharable, SectorSize: n.SectorSize}
	return volume.CreateAsLong(string(s), r, abandoned)
}

// Spool is an empty file on the SR's filesystem, without a name, for what an import has to hold on to: it goes when it is closed,
// however the process ends. It leaves the filesystem its reserve, as a disk that is made does.
func (s SR) Spool(context.Context) (interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
}, error) {
	open, err := sr.Open(string(s), dirfs.Shared)
	if err != nil {
		return nil, err
	}
	defer open.Close()
	on, err := dirfs.OpenDir(open.Root.Path())
	if err != nil {
		return nil, err
	}
	f, err := open.Staging.CreateNameless()
	if err != nil {
		on.Close()
		return nil, err
	}
	return &spool{f, f, f, on, filesystem.Fill(on)}, nil
}

type spool struct {
	io.ReaderAt
	to      io.WriterAt
	file    io.Closer
	on      *dirfs.Dir
	filling *filesystem.Filling
}

func (s *spool) WriteAt(p []byte, at int64) (int, error) {
	if err := s.filling.Take(int64(len(p))); err != nil {
		return 0, err
	}
	return s.to.WriteAt(p, at)
}

func (s *spool) Close() error { return errors.Join(s.file.Close(), s.on.Close()) }
