package snapshot

import (
	"os"

	"reflinksr/internal/dirfs"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Frozen is a file that holds what a volume held at a moment.
type Frozen = os.File

// Moment is what a volume holds at one moment of the call, in a file without a name that shares the volume's blocks: it goes when it is
// closed, whatever becomes of the process, and no list of volumes ever has it. The volume may be written to meanwhile, as for Snapshot.
// earlier is nil, or what Moment returned before: what a guest would be held up for is begun from that. It is not durable.
func Moment(handle string, key sr.Key, earlier *Frozen) (_ *Frozen, err error) {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	lock, err := s.LockVolume(key, dirfs.Shared)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	r, err := volume.LoadForChange(s, key)
	if err == nil {
		err = r.MustHaveData(key)
	}
	if err != nil {
		return nil, err
	}
	d, err := source(s, key)
	if err != nil {
		return nil, err
	}
	defer d.data.Close()
	d.earlier = earlier
	f, err := s.Staging.CreateNameless()
	if err != nil {
		return nil, err
	}
	if err = d.attrs.Apply(f); err == nil {
		err = d.take(f)
	}
	if err == nil {
		err = volume.Align(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
