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
	Size              int64 // bytes, at least
	Sharable          bool  // several guests may write to it
	SectorSize        int   // bytes, where it is made of what a disk held; 0: that of the SR's disks
}

// Create makes an empty volume. A size that no disk can have is fault.ErrSize.
func (s SR) Create(_ context.Context, n NewVolume) (VolumeStat, error) {
	return volume.Create(string(s), n.Name, n.Description, n.Size, n.Sharable)
}
