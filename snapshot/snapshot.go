package snapshot

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/loop"
	"reflinksr/internal/reflink"
	"reflinksr/internal/sys"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Snapshot makes a read-only volume with the contents that the volume has now.
// The volume may be active and written to: the result is what its disk would hold
// after a power cut at one moment.
func Snapshot(handle string, key sr.Key) (volume.Volume, error) {
	return within(handle, key, volume.Snapshot, nil)
}

// Labelled is Snapshot, of which it is said from its beginning what it is called and what it is for.
func Labelled(handle string, key sr.Key, label volume.Label) (volume.Volume, error) {
	return within(handle, key, volume.Snapshot, &label)
}

// Clone makes a writable volume with the contents that the volume has now.
func Clone(handle string, key sr.Key) (volume.Volume, error) {
	return within(handle, key, volume.Clone, nil)
}

// LabelledClone is Clone, of which it is said from its beginning what it is called and what it is for.
func LabelledClone(handle string, key sr.Key, label volume.Label) (volume.Volume, error) {
	return within(handle, key, volume.Clone, &label)
}

// Copy makes a writable volume in the SR dest. On another filesystem than the
// source's that is ErrOtherFS.
func Copy(handle string, key sr.Key, dest string) (volume.Volume, error) {
	if dest == handle {
		return within(handle, key, volume.Copy, nil)
	}
	src, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return volume.Volume{}, err
	}
	defer src.Close()
	dst, err := sr.Open(dest, dirfs.Shared)
	if err != nil {
		return volume.Volume{}, err
	}
	defer dst.Close()
	v, err := derive(src, key, dst, volume.Copy, nil)
	if errors.Is(err, unix.EXDEV) {
		err = fault.Errorf(fault.ErrOtherFS, string(key), "volume %s: SR %s is on another filesystem than %s and cannot share its blocks", key, dst.Path, src.Path)
	}
	return v, err
}

// CopyOf is the record of a writable volume that is to hold what a volume holds, in whatever SR, and its size in bytes: it has the
// same sectors, else a guest could not read it.
func CopyOf(handle string, key sr.Key) (*volume.Record, int64, error) {
	s, err := sr.Open(handle, dirfs.Unlocked)
	if err != nil {
		return nil, 0, err
	}
	defer s.Close()
	r, err := volume.Load(s, key)
	if err == nil {
		err = r.MustHaveData(key)
	}
	if err != nil {
		return nil, 0, err
	}
	st, err := volume.StatData(s, key)
	if err != nil {
		return nil, 0, err
	}
	return derived(r, volume.Copy, key, time.Now()), volume.RoundUp(st.Size), nil
}

func within(handle string, key sr.Key, kind volume.Kind, label *volume.Label) (volume.Volume, error) {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return volume.Volume{}, err
	}
	defer s.Close()
	return derive(s, key, s, kind, label)
}

// derive makes a volume in dst that shares all blocks with a volume of src. Name
// and description are copied if no label is given, the caller's keys are not.
func derive(src *sr.SR, key sr.Key, dst *sr.SR, kind volume.Kind, label *volume.Label) (volume.Volume, error) {
	// Shared: several snapshots at once do not disturb each other, and everything
	// that would change what they copy is kept out.
	lock, err := src.LockVolume(key, dirfs.Shared)
	if err != nil {
		return volume.Volume{}, err
	}
	defer lock.Unlock()
	r, err := volume.LoadForChange(src, key)
	if err != nil {
		return volume.Volume{}, err
	}
	if err := r.MustHaveData(key); err != nil {
		return volume.Volume{}, err
	}
	disk, err := source(src, key)
	if err != nil {
		return volume.Volume{}, err
	}
	defer disk.data.Close()
	made := derived(r, kind, key, time.Now())
	if label != nil {
		if err := label.On(made); err != nil {
			return volume.Volume{}, err
		}
	}
	return volume.Add(dst, made, disk.attrs, func(f *os.File) error {
		if err := disk.take(f); err != nil {
			return err
		}
		return volume.Align(f)
	})
}

// disk is a volume's data, about to be shared.
type disk struct {
	sr      *sr.SR
	key     sr.Key
	data    *os.File
	st      *unix.Stat_t
	attrs   reflink.Attributes // that its clone must have
	devices []loop.Device      // of this host
	earlier *os.File           // nil, or what a Moment of it was
}

// source opens a volume's data to be shared, complete with what this host still
// buffers of it.
func source(s *sr.SR, key sr.Key) (disk, error) {
	data, err := volume.OpenData(s, key, unix.O_RDONLY)
	if err != nil {
		return disk{}, err
	}
	d := disk{sr: s, key: key, data: data}
	if err := d.prepare(); err != nil {
		data.Close()
		return disk{}, err
	}
	return d, nil
}

func (d *disk) prepare() (err error) {
	if d.st, err = sys.Fstat(d.data); err != nil {
		return err
	}
	if d.devices, err = lease.GuestDevices(d.sr, d.key, d.st); err != nil {
		return err
	}
	if _, err := lease.Flush(d.key, d.devices); err != nil {
		return err
	}
	// From here on writes to the source are copied on write. An adopted file has
	// the expensive default.
	if err := reflink.LimitCOWExtents(d.data); err != nil {
		return err
	}
	d.attrs, err = reflink.AttributesOf(d.data)
	return err
}

// derived is the record of a volume that is made of one with the record r at a time. What
// callers have noted in its keys they have noted of that one.
func derived(r *volume.Record, kind volume.Kind, of sr.Key, at time.Time) *volume.Record {
	made := &volume.Record{
		Sharable: r.Sharable, ReadWrite: kind != volume.Snapshot, SectorSize: r.SectorSize, CBT: r.CBT,
		Origin: &volume.Origin{Kind: kind, Of: of, At: at.UTC().Truncate(time.Second)},
	}
	made.Derive(r)
	return made
}
