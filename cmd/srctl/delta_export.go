package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/overwrite"
	"reflinksr/internal/repository"
)

// deltaExport writes what a volume has that a snapshot has not, or all of it.
func (s *session) deltaExport(ctx context.Context, args []string) error {
	from, to, path := "", args[1], args[2]
	if len(args) == 4 {
		from, to, path = args[1], args[2], args[3]
	}
	if from == "-" {
		from = ""
	}
	sr, err := s.at(ctx, args[0])
	if err != nil {
		return err
	}
	if err := s.mayAnswer(path); err != nil {
		return err
	}
	if err := mayMake(path); err != nil {
		return err
	}
	start := time.Now()
	ctx, stop := untilEnded(ctx)
	defer stop()
	d, err := deltaOf(ctx, sr, from, to)
	if err != nil {
		return err
	}
	size, err := endable(ctx, func() (int64, error) {
		defer d.Data.Close()
		if path == "-" {
			return exportToPipe(d, s.out)
		}
		return exportToFile(d, path)
	})
	if err != nil {
		if partial := path + ".partial"; ctx.Err() != nil && path != "-" && !d.ReadWrite && isThere(partial) {
			err = goesOn(err, partial)
		}
		return err
	}
	return s.wrote(path, written{Path: path, Key: d.To, Bytes: size, Seconds: time.Since(start).Seconds()})
}

// deltaOf is the difference between two volumes; all of the second if there is no first.
func deltaOf(ctx context.Context, sr repository.SR, from, to string) (*repository.Delta, error) {
	v, err := sr.Find(ctx, to)
	if err != nil {
		return nil, err
	}
	var since repository.Volume
	if from != "" {
		if since, err = sr.Find(ctx, from); err != nil {
			return nil, err
		}
	}
	stop := busy("comparing")
	defer stop()
	return v.DeltaSince(ctx, since.Key)
}

func exportToPipe(d *repository.Delta, out io.Writer) (size int64, err error) {
	s, err := openStdout(out)
	if err != nil {
		return 0, err
	}
	begin := s.at
	b := bufio.NewWriterSize(s, delta.MaxData)
	w, err := delta.NewWriter(b, headerOf(d))
	if err == nil {
		err = writeDelta(w, d)
	}
	if err == nil {
		err = b.Flush()
	}
	if err == nil {
		err = s.End()
	}
	return s.at - begin, err
}

func headerOf(d *repository.Delta) delta.Header {
	return delta.Header{From: d.From, To: d.To, FromSize: d.FromSize, ToSize: d.ToSize}
}

// exportToFile writes beside the file, and gives it its name when it is whole. What an
// interrupted export left is continued.
func exportToFile(d *repository.Delta, path string) (size int64, err error) {
	f, err := exportToPartial(d, path)
	if f == nil {
		return 0, err
	}
	defer f.Close()
	if err == nil {
		size, err = sizeOf(f)
	}
	if err != nil {
		if !d.ReadWrite {
			err = goesOn(err, f.Name())
		}
		return 0, err
	}
	return size, rename(f.Name(), path)
}

// exportToPartial writes all of a stream durably to what path is called until it is whole. The file is nil if nothing was written,
// and may hold a part if there is an error.
func exportToPartial(d *repository.Delta, path string) (*os.File, error) {
	f, err := openPartial(path)
	if err != nil {
		return nil, err
	}
	b := bufio.NewWriterSize(f, delta.MaxData)
	w, err := continueExport(f, b, d)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if w != nil {
		err = writeDelta(w, d)
	}
	if e := b.Flush(); err == nil {
		err = e
	}
	if err == nil {
		err = f.Sync()
	}
	return f, err
}

// openPartial opens what a file is called until it is whole, made if absent, for nobody
// else to write meanwhile.
func openPartial(target string) (*os.File, error) {
	name := target + ".partial"
	if err := overwrite.FileIsFree(name); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockName(f, name); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// continueExport begins a stream, or goes on after the last whole record of one that was
// interrupted; nil if that has its end record. A writable volume may have been written
// to meanwhile.
func continueExport(f *os.File, b *bufio.Writer, d *repository.Delta) (*delta.Writer, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() == 0 {
		return delta.NewWriter(b, headerOf(d))
	}
	p := newProgress("verifying", st.Size())
	defer p.end()
	r, err := delta.NewReader(bufio.NewReaderSize(f, delta.MaxData))
	if err == nil && r.Header() != headerOf(d) {
		err = errors.New("it is of other volumes")
	}
	if err != nil {
		return nil, fmt.Errorf("it is there, and not what an interrupted export of this left: %w: remove it", err)
	}
	if d.ReadWrite {
		if err := restart(f, 0); err != nil {
			return nil, err
		}
		return delta.NewWriter(b, headerOf(d))
	}
	for {
		_, err := r.Next()
		if err == io.EOF {
			return nil, nil
		}
		if err != nil {
			if !errors.As(err, new(*delta.Damage)) {
				return nil, err
			}
			return r.Continue(b), restart(f, r.Position())
		}
		p.reach(r.Position())
	}
}

// restart cuts off a file and writes there.
func restart(f *os.File, at int64) error {
	if err := f.Truncate(at); err != nil {
		return err
	}
	_, err := f.Seek(at, io.SeekStart)
	return err
}
