package lease

import (
	"log/slog"
	"strings"

	"reflinksr/internal/dirfs"
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

	Domains []string // that have it
}

// Disks lists the devices of this host by its notes, whatever SR they are of. No SR is opened for that, and no device: who only
// wants to know what they do holds up nobody. What cannot be read is left out, and logged.
func Disks() (all []Disk, err error) {
	err = rundir.EachNote(rundir.Volumes, func(dir *dirfs.Dir, name string) error {
		uuid, key, _ := strings.Cut(name, ".")
		if !uuids.IsCanonical(uuid) || !uuids.IsCanonical(key) {
			return nil
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
			all = append(all, Disk{uuid, sr.Key(key), note.Device(), note.Domains})
		}
		return nil
	})
	return all, err
}
