package lease

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/loop"
	"reflinksr/internal/mountinfo"
	"reflinksr/sr"
)

// Loops lists the loop devices of this host that may be of a volume's files. That is a look at each loop device that the
// host has, whoever's it is: it is asked for where the note of a volume does not tell, and then once in a call.
type Loops func() (loop.Bound, error)

// LoopsOf looks at them when they are asked for the first time. path is the SR's.
func LoopsOf(path string, key sr.Key) Loops {
	return sync.OnceValues(func() (loop.Bound, error) {
		all, err := loop.List()
		if err != nil || !all.Any(string(key)) {
			return nil, err
		}
		return all.Where(mountinfo.Near(path)), nil
	})
}

// Listed are loop devices that were listed before.
func Listed(bound loop.Bound) Loops { return func() (loop.Bound, error) { return bound, nil } }

// Devices finds all devices of this host that have the volume's data file behind them, st
// being that of the file in place. Whoever acts on a volume asks this first: if a guest has
// another file than the one in place, because somebody replaced it (a restored backup, a
// repaired copy), acting on either would be wrong, and the error is ErrDamaged.
func Devices(s *sr.SR, key sr.Key, st *unix.Stat_t) ([]loop.Device, error) {
	note, err := NoteOf(s, key)
	if err != nil {
		slog.Warn("what is attached on this host cannot be read; devices tell", "key", key, "err", err)
		note = Note{}
	}
	return devicesAmong(s, key, note, st, LoopsOf(s.Path, key))
}

// GuestDevices is Devices for who only has to know what guests write to: where the note names a device of the file in
// place, and the kernel has it so, that is it. What another program has bound besides is not looked for then: attaching
// has refused what there was of that, and destroying, reverting and resizing find it.
func GuestDevices(s *sr.SR, key sr.Key, st *unix.Stat_t) ([]loop.Device, error) {
	if note, err := NoteOf(s, key); err == nil && len(note.Domains) > 0 {
		if d, there := note.DeviceOf(st.Dev, st.Ino); there {
			return []loop.Device{d}, nil
		}
	}
	return Devices(s, key, st)
}

// BoundNear lists the loop devices that may be of the SR's files.
func BoundNear(s *sr.SR) (loop.Bound, error) {
	all, err := loop.List()
	if err != nil || len(all) == 0 {
		return all, err
	}
	return all.Where(mountinfo.Near(s.Path)), nil
}

func devicesAmong(s *sr.SR, key sr.Key, note Note, st *unix.Stat_t, loops Loops) ([]loop.Device, error) {
	bound, err := loops()
	if err != nil {
		return nil, err
	}
	devices, err := bound.Of(st.Dev, st.Ino, string(key))
	if err != nil {
		return nil, err
	}
	others, err := otherFile(s, key, note, st, loops)
	if err != nil {
		return nil, err
	}
	if len(others) > 0 {
		return nil, replaced(s, key, note, others[0])
	}
	return devices, nil
}

// otherFile finds the devices of a file that had the volume's name before the one with st
// has it: the one that the note speaks of, and any that the kernel knows by the name.
func otherFile(s *sr.SR, key sr.Key, note Note, st *unix.Stat_t, loops Loops) ([]loop.Device, error) {
	if len(note.Domains) > 0 && (note.Nonpersistent || note.Replacing || note.Ino == 0 || note.Dev == st.Dev && note.Ino == st.Ino) {
		return nil, nil
	}
	bound, err := loops()
	if err != nil {
		return nil, err
	}
	if len(note.Domains) > 0 {
		staged, err := s.Staging.Stat(sr.Renewed(key))
		if err == nil && note.Dev == staged.Dev && note.Ino == staged.Ino {
			return nil, nil // of an attach that did not come to its end: nobody has it
		}
		return bound.Of(note.Dev, note.Ino, string(key))
	}
	if !bound.Any(string(key)) {
		return nil, nil
	}
	root, err := s.Root.Real()
	if err != nil {
		return nil, err
	}
	return bound.Former(filepath.Join(root, sr.Data(key)), s.Root.Device(), st.Ino)
}

// user says who has the volume's device.
func user(note Note) string {
	if len(note.Domains) > 0 {
		return "domain " + Plain(note.Domains[0])
	}
	return "a program of this host"
}

// replaced is the error for a volume of which a guest has another file than the one that is
// in place, behind the device d.
func replaced(s *sr.SR, key sr.Key, note Note, d loop.Device) error {
	return fault.Hint(fault.Errorf(fault.ErrDamaged, string(key), "volume %s: its file %s/%s was replaced while %s has it: %s still writes to the old one, and nothing is done with either", key, s.Path, sr.Data(key), user(note), d.Path()),
		"copy what is needed from %s, detach the volume, and attach it again", d.Path())
}

// removed is the error for a volume of which a guest has the file, behind the device d, and
// the directory has none. What is restored from a backup is older than what the guest has.
func removed(s *sr.SR, key sr.Key, note Note, d loop.Device) error {
	return fault.Hint(fault.Errorf(fault.ErrDamaged, string(key), "volume %s: its file %s/%s was removed while %s has it: all of its data is in %s, and goes with that", key, s.Path, sr.Data(key), user(note), d.Path()),
		"keep the guest from writing (pause it), copy %s to %s/%s, and only then detach the volume, and attach it again", d.Path(), s.Path, sr.Data(key))
}

// InPlace refuses, with ErrDamaged, if a guest has another file than the one that is in
// place, or than none.
func InPlace(s *sr.SR, key sr.Key, note Note) error {
	return InPlaceAmong(s, key, note, LoopsOf(s.Path, key))
}

// InPlaceAmong is InPlace of who may need the loop devices for more.
func InPlaceAmong(s *sr.SR, key sr.Key, note Note, loops Loops) error {
	st, err := s.Root.Stat(sr.Data(key))
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, fault.ErrDamaged) {
		return err
	}
	there := st != nil
	if !there {
		st = new(unix.Stat_t) // no file is the guest's
	}
	others, err := otherFile(s, key, note, st, loops)
	if err != nil || len(others) == 0 {
		return err
	}
	if !there {
		return removed(s, key, note, others[0])
	}
	return replaced(s, key, note, others[0])
}

// UpdateSize has a device show that its file has another size. One that is gone shows nothing to anybody.
func UpdateSize(d loop.Device) error {
	if err := d.UpdateSize(); !errors.Is(err, loop.ErrGone) {
		return err
	}
	return nil
}

// Flush brings to the file what was written to its device on this host: a guest's
// writes go straight there, others are in the device's own page cache until then. inUse
// says whether there is a device.
func Flush(key sr.Key, devices []loop.Device) (inUse bool, err error) {
	for _, d := range devices {
		if err := d.Flush(); err != nil && !errors.Is(err, loop.ErrGone) {
			return true, fmt.Errorf("volume %s: %w", key, err)
		}
	}
	return len(devices) > 0, nil
}
