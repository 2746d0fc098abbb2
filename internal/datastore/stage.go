package datastore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/extent"
	"reflinksr/internal/fault"
	"reflinksr/internal/reflink"
)

const (
	stagedPrefix = ".onereflink-"
	lockName     = ".onereflink.lock"
	fileMode     = 0o660 // the hypervisor may be of the owner's group
)

func itoa(n int) string { return strconv.Itoa(n) }

// staged is a file that is being made. It is locked as long as that goes on: so whoever sweeps knows whose maker is dead.
type staged struct {
	*os.File
	dir  *dirfs.Dir
	name string
	done bool
}

// stage begins a file in a directory, which the caller must close.
func stage(d *dirfs.Dir) (*staged, error) {
	lock, err := d.Lock(lockName, "datastore directory")
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	if err := sweep(d); err != nil {
		return nil, err
	}
	name := stagedPrefix + rand.Text()
	f, err := d.Create(name)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		d.Remove(name)
		return nil, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
	return &staged{File: f, dir: d, name: name}, nil
}

// sweep removes what is staged in a directory by nobody who lives. The directory must be locked: what is staged is locked before it is let go.
func sweep(d *dirfs.Dir) error {
	names, err := d.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, stagedPrefix) {
			continue
		}
		if f, err := d.Open(name, os.O_RDWR); err == nil {
			free := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			f.Close()
			if free != nil {
				continue
			}
		}
		if err := d.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// discard removes what was not published.
func (s *staged) discard() {
	if !s.done {
		s.dir.Remove(s.name)
		s.done = true
	}
	s.Close()
}

// how says what may be there when a file gets its name.
type how int

const (
	fresh   how = iota // nothing
	instead            // a file that nobody has open, a link, or nothing
)

// publish makes what is staged durable and gives it its name. This is the commit.
func (s *staged) publish(name string, h how) error {
	if err := dirfs.SetMode(s.File, fileMode); err != nil {
		return err
	}
	if err := s.Sync(); err != nil {
		return err
	}
	lock, err := s.dir.Lock(lockName, "datastore directory")
	if err != nil {
		return err
	}
	defer lock.Unlock()
	at := place{s.dir, name}
	switch taken, err := s.dir.Exists(name); {
	case err != nil:
		return err
	case taken && h == fresh:
		return fault.Errorf(fault.ErrInvalid, at.path(), "%s is there already", at.path())
	case taken:
		if err := at.unused(); err != nil {
			return err
		}
	}
	if err := s.dir.Rename(s.name, s.dir, name); err != nil {
		return err
	}
	s.done = true
	return s.dir.Sync()
}

// unused refuses a file that a hypervisor has open: QEMU locks what it has. A link is nobody's.
func (p place) unused() error {
	if target, err := p.target(); err != nil || target != "" {
		return err
	}
	f, err := p.dir.Open(p.name, os.O_RDWR)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return &os.PathError{Op: "look for locks", Path: p.path(), Err: err}
	}
	if lock.Type != unix.F_UNLCK {
		return fault.Hint(fault.Errorf(fault.ErrInUse, p.path(), "%s is in use: a hypervisor or another program has it locked", p.path()), "shut the guest down, then try again")
	}
	return nil
}

// fill gives what is staged the blocks of another file, as it is at one moment. Where two filesystems keep them from sharing, it is an error, or,
// if mayCopy, a copy: of a clone beside the source, for a guest may have that open with direct I/O, which must not meet the page cache.
func (s *staged) fill(ctx context.Context, src *os.File, from *dirfs.Dir, mayCopy bool) error {
	err := clone(s.File, src, s.dir)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EXDEV) && !mayCopy:
		return fault.Hint(fault.Errorf(fault.ErrOtherFS, s.dir.Path(), "%s and %s are on different filesystems, which share no blocks", src.Name(), s.dir.Path()),
			"put both datastores on one filesystem, or have REFLINK_ALLOW_COPY=YES in the datastore's template")
	case errors.Is(err, unix.EXDEV):
		moment, e := from.CreateNameless()
		if e != nil {
			return e
		}
		defer moment.Close()
		if e := clone(moment, src, from); e != nil {
			return e
		}
		return copyData(ctx, s.File, moment)
	}
	return err
}

// clone gives an empty file of a directory the attributes and the blocks of another.
func clone(f, src *os.File, d *dirfs.Dir) error {
	attributes, err := reflink.AttributesOf(src)
	if err == nil {
		err = attributes.Apply(f)
	}
	if err != nil && !d.Remote() {
		return err
	}
	err = reflink.CloneFile(f, src)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) {
		return fault.Hint(fault.Errorf(fault.ErrUnsuitable, d.Path(), "the filesystem of %s cannot share blocks", d.Path()), "it takes XFS (reflink=1), btrfs, or an NFS 4.2 export of one")
	}
	return err
}

// copyData copies what is no hole, until ctx ends.
func copyData(ctx context.Context, to, from *os.File) error {
	st, err := from.Stat()
	if err != nil {
		return err
	}
	err = extent.EachData(from, 0, st.Size(), func(start, end int64) error {
		const piece = 16 << 20
		for ; start < end; start += piece {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if _, err := io.Copy(io.NewOffsetWriter(to, start), io.NewSectionReader(from, start, min(piece, end-start))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("copying %s: %w", from.Name(), err)
	}
	return to.Truncate(st.Size())
}
