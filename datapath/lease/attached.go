package lease

import (
	"errors"
	"log/slog"
	"os"
	"strings"

	"reflinksr/internal/loop"
	"reflinksr/internal/rundir"
	"reflinksr/internal/uuids"
	"reflinksr/sr"
)

// Disk is a volume that has a device on this host.
type Disk struct {
	SR     string // its UUID
	Key    sr.Key
	Device loop.Device
}

// Disks lists the devices of this host by its notes, whatever SR they are of. No SR is opened for that, and no device: who only
// wants to know what they do holds up nobody. What cannot be read is left out, and logged.
func Disks() ([]Disk, error) {
	dir, err := rundir.Look(rundir.Volumes)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Names()
	if err != nil {
		return nil, err
	}
	var all []Disk
	for _, file := range names {
		name, isNote := strings.CutSuffix(file, ".json")
		uuid, key, _ := strings.Cut(name, ".")
		if !isNote || !uuids.IsCanonical(uuid) || !uuids.IsCanonical(key) {
			continue
		}
		note, err := ReadNote(dir, name)
		there := false
		if err == nil && note.Bound() {
			there, err = note.Device().HasNumber()
		}
		if err != nil {
			slog.Warn("what is noted of a volume's device cannot be read", "sr", uuid, "key", key, "err", err)
		}
		if there {
			all = append(all, Disk{uuid, sr.Key(key), note.Device()})
		}
	}
	return all, nil
}
