package datastore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"reflinksr/internal/fault"
)

func dirOf(path string) string { return filepath.Dir(path) }

// Snapshot takes a snapshot of a guest's disk or an image: one moment of it, also while a guest writes.
func Snapshot(ctx context.Context, path string, id int) error {
	p, err := live(path)
	if err != nil {
		return err
	}
	defer p.close()
	if err := makeDir(p.dir, p.snapshots()); err != nil {
		return err
	}
	if err := p.dir.Sync(); err != nil {
		return err
	}
	to, err := p.snapshot(id)
	if err != nil {
		return err
	}
	defer to.close()
	return p.cloneTo(ctx, to, fresh, Cloning{})
}

// Revert gives a guest's disk or an image the contents of its snapshot, in place: what is a link to it stays one.
func Revert(ctx context.Context, path string, id int) error {
	p, err := live(path)
	if err != nil {
		return err
	}
	defer p.close()
	from, err := p.snapshot(id)
	if err != nil {
		return err
	}
	defer from.close()
	if err := p.unused(); err != nil {
		return err
	}
	return from.cloneTo(ctx, p, instead, Cloning{})
}

// DeleteSnapshot removes a snapshot. One that is gone is no error.
func DeleteSnapshot(path string, id int) error {
	p, err := live(path)
	if err != nil {
		return err
	}
	defer p.close()
	s, err := p.snapshot(id)
	if errors.Is(err, fault.ErrVolumeNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.unused(); err != nil {
		return err
	}
	if err := s.dir.RemoveFile(s.name); err != nil {
		return err
	}
	return s.dir.Sync()
}

// Flatten gives an image the contents of its snapshot, and it has no snapshots any more. An image that has none was flattened before: that one goes last.
func Flatten(ctx context.Context, path string, id int) error {
	p, err := openImage(path)
	if err != nil {
		return err
	}
	defer p.close()
	if _, err := p.dir.Stat(p.name); err != nil {
		return err
	}
	d, names, err := p.namesIn(p.snapshots())
	if d == nil {
		return err
	}
	defer d.Close()
	if !slices.ContainsFunc(names, number.MatchString) {
		return p.removeTree(p.snapshots())
	}
	if err := Revert(ctx, path, id); err != nil {
		return err
	}
	for _, name := range names {
		if name != itoa(id) {
			if err := d.RemoveFile(name); err != nil {
				return err
			}
		}
	}
	if err := d.Sync(); err != nil {
		return err
	}
	return p.removeTree(p.snapshots())
}

// removeTree removes a directory and what is in it, and follows no link.
func (p place) removeTree(name string) error {
	root, err := os.OpenRoot(p.dir.Path())
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.RemoveAll(name); err != nil {
		return err
	}
	return p.dir.Sync()
}
