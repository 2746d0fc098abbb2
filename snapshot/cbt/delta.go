package cbt

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/reflink"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Delta is a volume's contents at one moment, and where they may differ from those of
// an older snapshot.
type Delta struct {
	From, To         sr.Key // From is "": all that To holds
	FromSize, ToSize int64  // virtual sizes in bytes
	ReadWrite        bool   // To is no snapshot: it may hold something else the next time
	Changed          BlockList
	Data             *os.File // of To. Nothing changes it any more, and it goes when it is closed
}

// DeltaOf compares a volume with a snapshot, whose data is not needed, and keeps its
// contents as they are now. Nobody has to wait for the one who reads them: they are a
// file of their own, which shares the blocks and has no name.
//
// from may be "". Two volumes that do not come from one are refused, and so is a volume
// in use, whose contents are those of no moment. Both ends of a difference are snapshots:
// the key of a writable volume does not say which of its contents a backup holds.
func DeltaOf(ctx context.Context, handle string, from, to sr.Key) (*Delta, error) {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	p, err := openWhole(s, cmp.Or(from, to), to)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := p.exportable(from != ""); err != nil {
		return nil, err
	}
	d := &Delta{To: to, ToSize: volume.RoundUp(p.b.size), ReadWrite: p.b.record.ReadWrite, Changed: BlockList{BlockSize: volume.SizeUnit}}
	if from == "" {
		d.Changed.add(0, d.ToSize)
	} else {
		d.From, d.FromSize = from, volume.RoundUp(p.a.size)
		if p.a != p.b {
			err = p.differences(ctx, 0, d.ToSize, d.Changed.add)
		}
	}
	if err == nil {
		d.Data, err = keep(s, p.b)
	}
	return d, err
}

func (p *pair) exportable(compared bool) error {
	if err := p.b.record.MustHaveData(p.b.key); err != nil {
		return err
	}
	if p.b.record.ReadWrite {
		if err := lease.CheckIdle(p.s, p.b.key); err != nil {
			return fmt.Errorf("%w; or take a snapshot of it, and export that", err)
		}
	}
	if !compared {
		return nil
	}
	if p.a.record.ReadWrite {
		return fault.Errorf(fault.ErrInvalid, string(p.a.key), "volume %s is writable, so nobody knows which of its contents a backup holds: compare with the snapshot that was exported", p.a.key)
	}
	if p.b.record.ReadWrite {
		return fault.Hint(fault.Errorf(fault.ErrInvalid, string(p.b.key), "volume %s is writable, so nobody would know which of its contents a backup holds", p.b.key),
			"take a snapshot of it, and export that")
	}
	related, err := p.related()
	if err == nil && !related {
		err = fault.Hint(fault.Errorf(fault.ErrUnrelated, string(p.b.key), "volumes %s and %s do not come from one volume", p.a.key, p.b.key),
			"make a full backup")
	}
	return err
}

// keep makes a file without a name that shares all blocks of a volume. What is read-only
// needs none.
func keep(s *sr.SR, d *disk) (_ *os.File, err error) {
	f, err := s.Staging.CreateNameless()
	if fault.Classify(err) == fault.ErrReadOnly {
		return volume.OpenData(s, d.key, unix.O_RDONLY)
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	attrs, err := reflink.AttributesOf(d.file)
	if err != nil {
		return nil, err
	}
	if err := attrs.Apply(f); err != nil {
		return nil, err
	}
	return f, reflink.CloneFile(f, d.file)
}

// Related says whether two volumes come from one, by their records or by what they
// share. Volumes that are not related have nothing in common to compare.
func Related(handle string, a, b sr.Key) (bool, error) {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return false, err
	}
	defer s.Close()
	return relatives(s, a, b)
}
