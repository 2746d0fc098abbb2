package datastore

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/image"
	"reflinksr/internal/program"
)

// Cloning is what a clone is to be.
type Cloning struct {
	From     string // an image, or a guest's disk, which may be running
	Snapshot int    // of it; -1: as it is now
	To       string // an image's or a disk's place
	Size     int64  // bytes, if it is to be longer
	Format   string // raw or qcow2: how it gets longer
	MayCopy  bool   // where two filesystems cannot share blocks
}

// Clone makes a disk that shares the blocks of another. A disk or image that is at that place already is replaced, unless somebody has it open.
func Clone(ctx context.Context, c Cloning) error {
	from, err := live(c.From)
	if err != nil {
		return err
	}
	defer from.close()
	if c.Snapshot >= 0 {
		snapshot, err := from.snapshot(c.Snapshot)
		if err != nil {
			return err
		}
		defer snapshot.close()
		from = snapshot
	}
	if IsDisk(c.To) {
		if err := makeGuest(dirOf(c.To)); err != nil {
			return err
		}
	}
	to, err := open(c.To)
	if err != nil {
		return err
	}
	defer to.close()
	return from.cloneTo(ctx, to, instead, c)
}

func (p place) cloneTo(ctx context.Context, to place, h how, c Cloning) error {
	src, err := p.dir.Open(p.name, os.O_RDONLY)
	if os.IsNotExist(err) {
		return fault.Errorf(fault.ErrVolumeNotFound, p.path(), "there is no %s", p.path())
	}
	if err != nil {
		return err
	}
	defer src.Close()
	s, err := stage(to.dir)
	if err != nil {
		return err
	}
	defer s.discard()
	if err := s.fill(ctx, src, p.dir, c.MayCopy); err != nil {
		return err
	}
	if err := lengthen(s.File, c.Format, c.Size); err != nil {
		return err
	}
	return s.publish(to.name, h)
}

// lengthen makes a disk longer; 0 or what it has already is nothing to do.
func lengthen(f *os.File, format string, size int64) error {
	if size == 0 {
		return nil
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	switch format {
	case "", "raw":
		if st.Size() >= size {
			return nil
		}
		return f.Truncate(size)
	case "qcow2":
		m, err := image.OpenAt(f, st.Size(), f.Name(), image.Options{Format: "qcow2"})
		if err != nil {
			return err
		}
		now := m.Size()
		m.Close()
		if now >= size {
			return nil
		}
		status, output, err := program.Run("qemu-utils", "qemu-img", "resize", "-f", "qcow2", "--", f.Name(), itoa(int(size)))
		if err == nil && status != 0 {
			err = fault.Errorf(nil, f.Name(), "qemu-img: %s", program.OneLine(output))
		}
		return err
	}
	return fault.Errorf(fault.ErrInvalid, format, "a disk of format %q cannot be made longer: raw and qcow2 can", fault.Shorten(format))
}

// Resize makes a guest's disk longer. One that is as long already stays.
func Resize(path, format string, size int64) error {
	p, err := live(path)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.unused(); err != nil {
		return err
	}
	f, err := p.dir.Open(p.name, os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := lengthen(f, format, size); err != nil {
		return err
	}
	return f.Sync()
}

// Link makes a guest's disk a link to an image, which must be there.
func Link(from, to string) error {
	src, err := openImage(from)
	if err != nil {
		return err
	}
	defer src.close()
	if _, err := src.dir.Stat(src.name); os.IsNotExist(err) {
		return fault.Errorf(fault.ErrVolumeNotFound, from, "there is no %s", from)
	} else if err != nil {
		return err
	}
	if err := makeGuest(dirOf(to)); err != nil {
		return err
	}
	dst, err := openDisk(to)
	if err != nil {
		return err
	}
	defer dst.close()
	lock, err := dst.dir.Lock(lockName, "datastore directory")
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := sweep(dst.dir); err != nil {
		return err
	}
	if err := dst.unused(); err != nil {
		return err
	}
	name := stagedPrefix + "link"
	if err := unix.Symlinkat(from, dst.dir.Fd(), name); err != nil {
		return &os.LinkError{Op: "symlink", Old: from, New: dst.dir.Join(name), Err: err}
	}
	if err := dst.dir.Rename(name, dst.dir, dst.name); err != nil {
		return err
	}
	return dst.dir.Sync()
}
