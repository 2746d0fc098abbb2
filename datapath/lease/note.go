package lease

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/loop"
	"reflinksr/internal/record"
	"reflinksr/internal/rundir"
	"reflinksr/sr"
)

// Note is what this boot of this host knows of a volume's device. It is kept in
// a directory of rundir, which needs no space on the SR and goes with the boot, and
// changed by package datapath only.
type Note struct {
	Domains       []string `json:"domains"`       // attached
	Active        []Holder `json:"active"`        // those of them that may use the volume
	Nonpersistent bool     `json:"throw_away"`    // opened with persistent=false
	For           string   `json:"for,omitempty"` // the domain for which alone the nonpersistent disk is; "" if for any
	Used          bool     `json:"used"`          // the nonpersistent disk has been attached
	Host          string   `json:"host"`          // by which the nonpersistent disk is named: what this host was called then
	Stuck         bool     `json:"stuck"`         // the device of no domain could not be unbound
	Replacing     bool     `json:"replacing"`     // the volume gets another file, which the device, that nobody uses, is to be bound to
	Dev           uint64   `json:"dev"`           // of the file behind the device
	Ino           uint64   `json:"ino"`

	Number   int           `json:"number"`   // of the device, /dev/loopN, once it is bound
	Instance loop.Instance `json:"instance"` // which device of that number it is
}

// NonpersistentName is the staging name of the volume's nonpersistent disk on this host.
func (n Note) NonpersistentName(key sr.Key, me hostinfo.Host) string {
	if n.Host != "" {
		me.UUID = n.Host
	}
	return NonpersistentName(key, me)
}

// Bound says whether the note tells of a device.
func (n Note) Bound() bool { return n.Instance.Name != "" }

// Device is the device that the note speaks of. It need not be there any more.
func (n Note) Device() loop.Device {
	return loop.Device{Number: n.Number, Dev: n.Dev, Ino: n.Ino, Instance: n.Instance}
}

// DeviceOf is that device if it is of the file with this device and inode number, and the kernel has it so. Where it is not,
// or nobody can tell, all loop devices have to be looked at.
func (n Note) DeviceOf(dev, ino uint64) (d loop.Device, there bool) {
	if !n.Bound() || n.Dev != dev || n.Ino != ino {
		return d, false
	}
	d = n.Device()
	there, err := d.IsThere()
	return d, there && err == nil
}

// NoteName is the name of a volume's note, to which .json and .lock are added.
func NoteName(uuid string, key sr.Key) string { return uuid + "." + string(key) }

// Empty says that the note says nothing.
func (n Note) Empty() bool {
	return len(n.Domains) == 0 && !n.Nonpersistent && !n.Stuck && n.Locked() == nil
}

// InUse says whether a domain has the volume active.
func (n Note) InUse() bool {
	return slices.ContainsFunc(n.Active, func(h Holder) bool { return h.Lock == "" })
}

// Locked is the lock of the volume that this host has; nil if there is none.
func (n Note) Locked() *Holder { return LockAmong(n.Active) }

// LockAmong is the lock among holders, or nil.
func LockAmong(held []Holder) *Holder {
	i := slices.IndexFunc(held, func(h Holder) bool { return h.Lock != "" })
	if i < 0 {
		return nil
	}
	return &held[i]
}

// IsDom0 says whether a domain is dom0 itself: the toolstack calls it 0, or u0 and what it wants the disk for.
func IsDom0(domain string) bool {
	return domain == "0" || strings.HasPrefix(domain, "u0-") || strings.HasPrefix(domain, "u0_")
}

// InDom0 says whether dom0 has the volume attached. Then it may read and write its file, past the device.
func (n Note) InDom0() bool { return slices.ContainsFunc(n.Domains, IsDom0) }

// Attached says whether a domain has the volume attached.
func (n Note) Attached(domain string) bool { return slices.Contains(n.Domains, domain) }

// Holder finds a domain that has the volume active.
func (n Note) Holder(domain string) (h Holder, active bool) {
	i := slices.IndexFunc(n.Active, func(h Holder) bool { return h.Domain == domain })
	if i < 0 {
		return h, false
	}
	return n.Active[i], true
}

// ReadNote reads the note of that name; no note is an empty one.
func ReadNote(dir *dirfs.Dir, name string) (n Note, err error) {
	data, err := dir.Read(name+".json", record.Limit)
	if errors.Is(err, os.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return n, err
	}
	return parseNote(data)
}

func parseNote(data []byte) (n Note, err error) { return n, json.Unmarshal(data, &n) }

// RemoveNote removes what this host notes of a volume that is no more. A datapath call that
// goes on now has it locked, and finds out by itself.
func RemoveNote(uuid string, key sr.Key) {
	dir, err := rundir.Look(rundir.Volumes)
	if err != nil {
		return // nothing was ever noted
	}
	defer dir.Close()
	name := NoteName(uuid, key)
	if there, err := dir.Exists(name + ".json"); err == nil && !there {
		return
	}
	lock, err := dir.TryLock(name+".lock", "volume "+string(key)+" on this host")
	if err == nil {
		err = dir.Remove(name + ".json")
		lock.Discard()
	}
	if err != nil {
		slog.Warn("what is noted of a destroyed volume stays until its SR is attached again", "key", key, "err", err)
	}
}

// SweepLocks removes the locks of notes of an SR that are no more: a call that is killed after it has removed
// a note leaves its lock, which is nobody's. One that somebody has now goes with the call that has it.
func SweepLocks(uuid string) error {
	dir, err := rundir.Look(rundir.Volumes)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Names()
	if err != nil {
		return err
	}
	for _, file := range names {
		name, isLock := strings.CutSuffix(file, ".lock")
		if !isLock || !strings.HasPrefix(name, NoteName(uuid, "")) || slices.Contains(names, name+".json") {
			continue
		}
		lock, e := dir.TryLock(file, "a volume on this host")
		if errors.Is(e, fault.ErrBusy) {
			continue
		}
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		if there, e := dir.Exists(name + ".json"); e != nil || there {
			err = errors.Join(err, e)
			lock.Unlock()
			continue
		}
		lock.Discard()
	}
	return err
}

// NoteOf reads the note of a volume.
func NoteOf(s *sr.SR, key sr.Key) (Note, error) {
	dir, err := rundir.Look(rundir.Volumes)
	if errors.Is(err, os.ErrNotExist) {
		return Note{}, nil
	}
	if err != nil {
		return Note{}, err
	}
	defer dir.Close()
	return ReadNote(dir, NoteName(s.Meta.UUID, key))
}
