package datastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/extent"
	"reflinksr/internal/fault"
	"reflinksr/internal/image"
)

// Backup is a guest's disk that is to be backed up.
type Backup struct {
	Disk      int
	Increment int    // 0: all of it, and increments follow; -1: all of it, and none do; else what has changed since the one before
	Format    string // of the disk
}

// kept is the name of the snapshot that increment n was taken of: the next is what has changed since.
func kept(n int) string { return "one_backup_" + strconv.Itoa(n) }

// Moment is what disks held when a backup began.
type Moment struct{ disks []moment }

type moment struct {
	Backup
	now, before *os.File
	// The directory of the disk's snapshots: what is not needed any more goes when the backup is written.
	snapshots *dirfs.Dir
}

// Close lets go of the files. What is kept for the next increment stays.
func (m *Moment) Close() {
	for _, d := range m.disks {
		d.now.Close()
		d.before.Close()
		d.snapshots.Close()
	}
}

// Moments takes what the disks of a guest hold now, all of them before any is read. dir is the guest's directory.
func Moments(ctx context.Context, dir string, disks []Backup) (*Moment, error) {
	m := new(Moment)
	for _, b := range disks {
		if err := m.take(ctx, filepath.Join(dir, "disk."+itoa(b.Disk)), b); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (m *Moment) take(ctx context.Context, path string, b Backup) (err error) {
	p, err := live(path)
	if err != nil {
		return err
	}
	defer p.close()
	d := moment{Backup: b}
	if b.Increment < 0 {
		if d.now, err = p.nameless(); err == nil {
			m.disks = append(m.disks, d)
		}
		return err
	}
	if err := makeDir(p.dir, p.snapshots()); err != nil {
		return err
	}
	if err := p.dir.Sync(); err != nil {
		return err
	}
	if d.snapshots, err = p.dir.Sub(p.snapshots()); err != nil {
		return err
	}
	m.disks = append(m.disks, d)
	last := &m.disks[len(m.disks)-1]
	if b.Increment > 0 {
		last.before, err = d.snapshots.Open(kept(b.Increment-1), os.O_RDONLY)
		if errors.Is(err, os.ErrNotExist) {
			return fault.Hint(fault.Errorf(fault.ErrVolumeNotFound, path, "what %s held at the backup before (%s) is not there, so nothing tells what has changed since", path, kept(b.Increment-1)), "make a full backup: onevm backup --reset")
		}
		if err != nil {
			return err
		}
	}
	if err := p.cloneTo(ctx, place{d.snapshots, kept(b.Increment)}, instead, Cloning{}); err != nil {
		return err
	}
	last.now, err = d.snapshots.Open(kept(b.Increment), os.O_RDONLY)
	return err
}

// nameless is a clone of a file that goes when it is closed.
func (p place) nameless() (*os.File, error) {
	src, err := p.dir.Open(p.name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	f, err := p.dir.CreateNameless()
	if err != nil {
		return nil, err
	}
	if err := clone(f, src, p.dir); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Write writes the backups into a directory, which is made anew: disk.D.N, a qcow2 of what has changed since increment N-1, which it names, or of all; and vm.xml.
// Only when they are durable, what increments before the last were taken of is given up: a backup that is not fetched can be taken again.
func (m *Moment) Write(ctx context.Context, dir string, vm []byte) error {
	if err := RemoveBackup(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	d, err := dirfs.OpenDir(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = m.write(ctx, d, vm)
	if err != nil {
		if e := RemoveBackup(dir); e != nil {
			err = fmt.Errorf("%w; and what there is of the backup could not be removed: %v", err, e)
		}
	}
	return err
}

func (m *Moment) write(ctx context.Context, d *dirfs.Dir, vm []byte) error {
	if err := d.WriteNew("vm.xml", vm); err != nil {
		return err
	}
	for _, disk := range m.disks {
		if err := disk.write(ctx, d); err != nil {
			return err
		}
	}
	if err := d.Sync(); err != nil {
		return err
	}
	for _, disk := range m.disks {
		if err := disk.giveUp(); err != nil {
			return err
		}
	}
	return nil
}

// giveUp removes what increments were taken of, but for this one and the one before.
func (m moment) giveUp() error {
	if m.snapshots == nil {
		return nil
	}
	names, err := m.snapshots.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, kept(0)[:len(kept(0))-1]) && name != kept(m.Increment) && (m.Increment == 0 || name != kept(m.Increment-1)) {
			if err := m.snapshots.RemoveFile(name); err != nil {
				return err
			}
		}
	}
	return m.snapshots.Sync()
}

func (m moment) write(ctx context.Context, d *dirfs.Dir) error {
	n := max(m.Increment, 0)
	f, err := d.Create(fmt.Sprintf("disk.%d.%d", m.Disk, n))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := dirfs.SetMode(f, fileMode); err != nil {
		return err
	}
	st, err := m.now.Stat()
	if err != nil {
		return err
	}
	if m.before == nil {
		return all(ctx, f, m.now, st.Size(), m.Format)
	}
	to, err := image.NewQcow2Over(f, st.Size(), fmt.Sprintf("disk.%d.%d", m.Disk, n-1))
	if err != nil {
		return err
	}
	return changes(ctx, to, m.now, m.before, st.Size())
}

// all writes a whole disk. A guest wrote what is in it: its format is what was said, and a qcow2 that names other files is refused.
func all(ctx context.Context, to, from *os.File, size int64, format string) error {
	m, err := image.OpenAt(from, size, "the disk", image.Options{Format: format})
	if err != nil {
		return err
	}
	defer m.Close()
	w, err := image.NewWriter(to, "qcow2", m.Size())
	if err != nil {
		return err
	}
	return m.CopyTo(ctx, w, func(int64, int64) {})
}

// changes writes the clusters in which two files do not share their blocks.
func changes(ctx context.Context, to image.Sink, now, before *os.File, size int64) error {
	buf := make([]byte, 16*image.ClusterSize)
	at := int64(0)
	write := func(start, end int64) error {
		if err := to.Zeros(start - at); err != nil {
			return err
		}
		for at = start; at < end; {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			n := min(int64(len(buf)), end-at)
			if _, err := io.ReadFull(io.NewSectionReader(now, at, n), buf[:n]); err != nil {
				return err
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
			at += n
		}
		return nil
	}
	c := clusters{size: size, do: write}
	if err := extent.Differences(now, before, size, c.add); err != nil {
		return err
	}
	if err := c.end(); err != nil {
		return err
	}
	if err := to.Zeros(size - at); err != nil {
		return err
	}
	return to.End()
}

// clusters rounds ranges, which come in order, to whole clusters, and puts those together that meet.
type clusters struct {
	size        int64
	start, upTo int64
	do          func(start, end int64) error
}

func (c *clusters) add(start, end int64) error {
	start, end = start/image.ClusterSize*image.ClusterSize, min((end+image.ClusterSize-1)/image.ClusterSize*image.ClusterSize, c.size)
	if start <= c.upTo && c.upTo > 0 {
		c.upTo = max(end, c.upTo)
		return nil
	}
	if err := c.end(); err != nil {
		return err
	}
	c.start, c.upTo = start, end
	return nil
}

func (c *clusters) end() error {
	start, end := c.start, c.upTo
	c.start, c.upTo = 0, 0
	if start == end {
		return nil
	}
	return c.do(start, end)
}

// RemoveBackup removes the directory of a backup. One that is gone is no error.
func RemoveBackup(dir string) error {
	if err := proper(dir); err != nil {
		return err
	}
	if filepath.Base(dir) != "backup" {
		return fault.Errorf(fault.ErrInvalid, dir, "%q is no directory of a backup", fault.Shorten(dir))
	}
	root, err := os.OpenRoot(filepath.Dir(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll("backup")
}
