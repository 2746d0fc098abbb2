package repository

import (
	"context"

	"reflinksr/sr"
	"reflinksr/volume"
)

// NewSR is what an SR is made of.
type NewSR struct {
	UUID              string
	Configuration     map[string]string
	Name, Description string
}

// Create makes an SR, or adopts what is there, and returns the configuration that Attach needs
// from now on. It may be repeated.
func Create(_ context.Context, n NewSR) (map[string]string, error) {
	return sr.Create(n.UUID, n.Configuration, n.Name, n.Description)
}

// NewVolume is what a volume is made of.
type NewVolume struct {
	Name, Description string
	Size              int64             // bytes, at least
	Keys              map[string]string // pairs of the caller's
	Sharable          bool              // several guests may write to it
	SectorSize        int               // bytes; 0: that of the SR's disks
	Key               Key               // "": whichever
	Exact             bool              // it is no larger than it must be, though programs ask for whole units of 2 MiB
}

// Create makes an empty volume. A size that no disk can have is fault.ErrSize; a key that is taken, fault.ErrVolumeExists.
func (s SR) Create(ctx context.Context, n NewVolume) (VolumeStat, error) {
	if n.SectorSize != 0 || n.Exact {
		if !n.Exact {
			n.Size = volume.RoundUpNew(n.Size)
		}
		return s.CreateFrom(ctx, n, func(to Sink) error { return to.Zeros(n.Size) })
	}
	return volume.CreateAs(string(s), &volume.Record{Name: n.Name, Description: n.Description, ReadWrite: true, Sharable: n.Sharable, Keys: n.Keys, Chosen: n.Key}, n.Size)
}
