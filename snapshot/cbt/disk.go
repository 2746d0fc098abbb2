package cbt

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/extent"
	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
	"reflinksr/sr"
	"reflinksr/volume"
)

// disk is a volume open to be compared with others.
type disk struct {
	key     sr.Key
	record  *volume.Record
	file    *os.File
	size    int64 // bytes
	freed   *freedBlocks
	pending bool    // freed blocks may still take space
	owners  []*disk // of freed blocks, by their place in freed.owners; nil: itself, or one that is no more
	opening bool    // its owners are not all there yet
	tree    bool    // it is on btrfs, and the tree has all of it
	inUse   bool    // it may be written to meanwhile
}

// openDisk opens a volume that the caller has locked. If its data was destroyed, that
// includes SR.LockCBT.
func openDisk(s *sr.SR, key sr.Key) (*disk, error) {
	return openWith(s, key, map[sr.Key]*disk{})
}

// Pending says whether what a volume keeps of its destroyed data can be read, and whether freed
// blocks may still take space. The caller has SR.LockCBT, or finds out otherwise that
// nothing changes.
func Pending(s *sr.SR, key sr.Key) (bool, error) {
	d, err := openDisk(s, key)
	if err != nil {
		return false, err
	}
	defer d.close()
	return d.pending, nil
}

// openWith also opens those that keep blocks of the volume, each once.
func openWith(s *sr.SR, key sr.Key, opened map[sr.Key]*disk) (_ *disk, err error) {
	d := &disk{key: key, opening: true}
	opened[key] = d
	defer func() {
		d.opening = false
		if err != nil {
			delete(opened, key)
			d.close()
		}
	}()
	if d.record, err = volume.LoadForChange(s, key); err != nil {
		return nil, err
	}
	if d.file, err = volume.OpenReceived(s, key, unix.O_RDONLY); err != nil {
		return nil, err
	}
	st, err := sys.Fstat(d.file)
	if err != nil {
		return nil, err
	}
	d.size = st.Size
	devices, err := lease.GuestDevices(s, key, st)
	if err != nil {
		return nil, err
	}
	if d.record.ReadWrite && !d.record.DataDestroyed { // or nobody has written to its device
		if d.inUse, err = lease.Flush(key, devices); err != nil {
			return nil, err
		}
	}
	if s.Meta.Filesystem.Type == "btrfs" {
		// On kernels that cannot tell: what nobody writes to is in it since it was cloned.
		d.tree = extent.InTree(d.file) || !d.record.ReadWrite && d.file.Sync() == nil
	}
	if !d.record.DataDestroyed {
		return d, nil
	}
	if d.freed, d.pending, err = loadFreed(s, key); err != nil {
		return nil, err
	}
	d.owners = make([]*disk, len(d.freed.owners))
	for i, k := range d.freed.owners[1:] {
		owner, err := opened[k], error(nil)
		if owner == nil {
			owner, err = openWith(s, k, opened)
			if errors.Is(err, fault.ErrVolumeNotFound) {
				continue // what only the two had was freed with it: see transferBlocks
			}
			if err == nil && owner.freed == nil {
				err = fault.Errorf(fault.ErrDamaged, string(k), "volume %s still has its data", k)
			}
		} else if owner.opening {
			err = fault.Errorf(fault.ErrDamaged, string(k), "volume %s depends on it in turn", k)
		}
		if err != nil && fault.Classify(err) == nil {
			return nil, err // it can be read again in a moment
		}
		if err != nil {
			return nil, fault.Hint(fault.Errorf(fault.ErrDamaged, string(key), "volume %s: its data was destroyed, and volume %s, which keeps blocks of it, cannot be read: %v", key, k, err),
				"make a full backup, and destroy the volume")
		}
		d.owners[i+1] = owner
	}
	return d, nil
}

func (d *disk) close() {
	if d == nil || d.file == nil {
		return
	}
	d.file.Close()
	d.file = nil
	for _, k := range d.owners {
		k.close()
	}
}

// from walks over the disk from a place on.
func (d *disk) from(at int64) cursor {
	own := d.own(at, d.inUse)
	if d.freed == nil {
		return own
	}
	c := &freedCursor{own: walker{cursor: own}, size: d.size, runs: d.freed.runs.walk(), at: at, names: d.freed.owners, owners: make([]*walker, len(d.owners))}
	for i, k := range d.owners {
		if k != nil {
			c.owners[i] = &walker{cursor: k.from(at)}
		}
	}
	return c
}

// rest walks over what the file itself has of a disk: freed blocks read as holes. What is
// shared is told of as well.
func (d *disk) rest() cursor {
	own := d.own(0, true)
	if d.freed == nil {
		return own
	}
	return &freedCursor{own: walker{cursor: own}, size: d.size, runs: d.freed.runs.walk()}
}

// own walks over the file from a place on, by the fastest way that can tell; mapped: by
// FIEMAP, which knows what is shared, and locks what it reads.
func (d *disk) own(at int64, mapped bool) cursor {
	fiemap := newFileCursor(d.file, d.size, at)
	if !d.tree {
		return fiemap
	}
	tree, err := newTreeCursor(d.file, d.size)
	if err != nil {
		return fiemap
	}
	if mapped {
		return &mappedCursor{walker{cursor: fiemap}, walker{cursor: tree}, at}
	}
	return tree
}

// mappedCursor walks over a file by FIEMAP. Of compressed blocks that does not tell where
// they are: the tree does.
type mappedCursor struct {
	fiemap, tree walker
	at           int64
}

func (c *mappedCursor) next() (segment, error) {
	g, err := c.fiemap.at(c.at)
	if err == nil && g.what == unsure {
		var t segment
		if t, err = c.tree.at(c.at); err == nil {
			g.end = min(g.end, t.end)
			if t.what == stored {
				g.what, g.extent, g.place = stored, t.extent, t.place
			}
		}
	}
	c.at = g.end
	return g, err
}
