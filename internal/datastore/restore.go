package datastore

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"reflinksr/internal/fault"
)

// Restored is a guest's disk that is to hold again what a backup has.
type Restored struct {
	Disk   int
	Format string // raw or qcow2: that of the disk
	Size   int64  // bytes that it is to have at least; 0: as many as the backup has
	Source string // the image that it is a link to, "" if it is none
}

// Restore gives a guest's disks the contents that come, an image each, in their order. All of them are there and durable before the first disk is
// replaced; a link to an image stays one. The disks' snapshots are gone then, for they are of what is no more, but not what increments of
// backups are compared with: that stays true. dir is the guest's directory.
func Restore(ctx context.Context, dir string, disks []Restored, next func() io.Reader) error {
	var all []*restoring
	defer func() {
		for _, r := range all {
			r.close()
		}
	}()
	for _, d := range disks { // before anything comes, which takes long
		r, err := findRestored(filepath.Join(dir, "disk."+itoa(d.Disk)), d)
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	for _, r := range all {
		if err := r.receive(ctx, next()); err != nil {
			return fmt.Errorf("disk %d: %w", r.Disk, err)
		}
	}
	for _, r := range all {
		if err := r.staged.publish(r.at.name, instead); err != nil {
			return err
		}
		if err := r.at.removeNumbered(); err != nil {
			return err
		}
	}
	return nil
}

type restoring struct {
	Restored
	at     place
	staged *staged
}

func (r *restoring) close() {
	if r.staged != nil {
		r.staged.discard()
	}
	r.at.close()
}

// findRestored opens the place of the file that a disk is. It must be that which it is meant to be, and nobody's.
func findRestored(path string, d Restored) (*restoring, error) {
	at, err := live(path)
	if err != nil {
		return nil, err
	}
	want := d.Source
	if want == "" {
		want = path
	}
	if at.path() != want {
		at.close()
		return nil, fault.Hint(fault.Errorf(fault.ErrDamaged, path, "%s is the file %s, and should be %s", path, at.path(), want), "find out who changed it; nothing was restored")
	}
	if err := at.unused(); err != nil {
		at.close()
		return nil, err
	}
	return &restoring{Restored: d, at: at}, nil
}

// receive stages the disk's new contents.
func (r *restoring) receive(ctx context.Context, from io.Reader) error {
	came, err := stage(r.at.dir)
	if err != nil {
		return err
	}
	defer func() {
		if r.staged != came {
			came.discard()
		}
	}()
	if err := came.receive(ctx, from); err != nil {
		return err
	}
	format, err := inspect(came.File)
	if err != nil {
		return err
	}
	if format == r.Format {
		r.staged = came
	} else {
		if r.staged, err = stage(r.at.dir); err != nil {
			return err
		}
		if err := convert(ctx, r.staged.File, came.File, r.Format); err != nil {
			return err
		}
	}
	return lengthen(r.staged.File, r.Format, r.Size)
}

// receive fills what is staged with all that comes, until ctx ends.
func (s *staged) receive(ctx context.Context, from io.Reader) error {
	buf := make([]byte, 1<<20)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := from.Read(buf)
		if _, e := s.Write(buf[:n]); e != nil {
			return e
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// removeNumbered removes the snapshots that a guest's user took of a file.
func (p place) removeNumbered() error {
	d, names, err := p.namesIn(p.snapshots())
	if d == nil {
		return err
	}
	defer d.Close()
	for _, name := range names {
		if number.MatchString(name) {
			if err := d.RemoveFile(name); err != nil {
				return err
			}
		}
	}
	return d.Sync()
}
