package lease

import (
	"errors"
	"os"

	"reflinksr/internal/loop"
	"reflinksr/sr"
)

// DeviceState is what a volume's device on this host is like.
type DeviceState struct {
	Path       string `json:"path"`
	SectorSize int    `json:"sector_size"` // bytes
	DirectIO   bool   `json:"direct_io"`   // it bypasses this host's page cache
}

// DeviceOf tells of the device that the volume, or its nonpersistent disk, has on this host. nil: it has none.
func DeviceOf(s *sr.SR, key sr.Key) (*DeviceState, error) {
	note, err := NoteOf(s, key)
	if err != nil || !note.Bound() {
		return nil, err
	}
	d := note.Device()
	_, err = d.Binding() // is it still that file's?
	info := loop.Info{}
	if err == nil {
		info, err = d.Info()
	}
	if errors.Is(err, loop.ErrGone) || errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &DeviceState{d.Path(), info.SectorSize, info.DirectIO}, nil
}
