package repository

import (
	"context"
	"errors"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/snapshot/cbt"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Usage is what the volumes of an SR occupy. All sizes are in bytes.
type Usage struct {
	Path       string  `json:"path"`
	Volumes    []Space `json:"volumes"`
	Exclusive  int64   `json:"exclusive_bytes"` // of all volumes together
	FreeSpace  int64   `json:"free_space"`      // of the filesystem, whatever else is on it
	TotalSpace int64   `json:"total_space"`
}

// Space is what a volume occupies, in bytes.
type Space struct {
	Key            Key    `json:"key"`
	Name           string `json:"name"`
	ReadWrite      bool   `json:"read_write"`
	VolumeType     string `json:"volume_type,omitempty"`
	VirtualSize    int64  `json:"virtual_size"`
	Allocated      int64  `json:"allocated_bytes"`
	SharedBytes    int64  `json:"shared_bytes"`
	ExclusiveBytes int64  `json:"exclusive_bytes"`
	PinnedBytes    int64  `json:"pinned_bytes"`    // of btrfs's extents that it alone has, and uses in part: of the rest
	GivesBack      int64  `json:"gives_back"`      // when it is destroyed, at least
	GivesBackMore  bool   `json:"gives_back_more"` // and what only snapshots without data share with it
	FreedBytes     int64  `json:"freed_bytes"`     // of a snapshot without data: that it has not any more
	LostBytes      int64  `json:"lost_bytes"`      // the same, by its name until 2026
	NoteBytes      int64  `json:"note_bytes"`      // of the file that says which
	Pending        bool   `json:"pending"`         // some of them may not have been given back yet
}

// Usage measures every volume, which walks over all their extents: fault.ErrNoExtents on NFS.
// Volumes that cannot be measured are left out, and are the error. It is nil of an SR that is
// not there. moved is told how many volumes of how many are measured.
func (s SR) Usage(ctx context.Context, moved func(done, total int64)) (*Usage, error) {
	open, err := sr.Open(string(s), dirfs.Unlocked)
	if err != nil {
		return nil, err
	}
	defer open.Close()
	if err := open.MustMapExtents(); err != nil {
		return nil, err
	}
	u := &Usage{Path: open.Path, Volumes: []Space{}}
	if u.TotalSpace, u.FreeSpace, err = filesystem.Space(open.Root); err != nil {
		return nil, err
	}
	keys, err := volume.Keys(open)
	if err != nil {
		return nil, err
	}
	var failed error
	for i, key := range keys {
		moved(int64(i), int64(len(keys)))
		if err := context.Cause(ctx); err != nil {
			return u, errors.Join(failed, err)
		}
		v, err := spaceOf(open, key)
		if errors.Is(err, fault.ErrVolumeNotFound) {
			continue // destroyed meanwhile
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		u.Volumes = append(u.Volumes, v)
		u.Exclusive += v.ExclusiveBytes
	}
	return u, failed
}

func spaceOf(s *sr.SR, key Key) (Space, error) {
	v, err := volume.Describe(s, key)
	if err != nil {
		return Space{}, err
	}
	u, err := volume.UsageOf(s, key)
	if err != nil {
		return Space{}, err
	}
	p := Space{
		Key: key, Name: v.Name, ReadWrite: v.ReadWrite, VolumeType: v.VolumeType, VirtualSize: v.VirtualSize,
		Allocated: v.PhysicalUtilisation, SharedBytes: u.Shared, ExclusiveBytes: u.Exclusive, PinnedBytes: u.Pinned, GivesBack: u.GivesBack,
	}
	if v.VolumeType == CBTMetadata {
		r, err := cbt.MetadataUsageOf(s, key)
		if err != nil {
			return Space{}, err
		}
		p.FreedBytes, p.NoteBytes, p.Pending = min(r.Freed, v.VirtualSize), r.Note, r.Pending
		p.LostBytes = p.FreedBytes
		p.GivesBack += r.Note
	}
	relatives, err := cbt.DestroyedRelatives(s, key)
	p.GivesBackMore = u.Shared > 0 && len(relatives) > 0
	return p, err
}
