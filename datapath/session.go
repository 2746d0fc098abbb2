package datapath

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/layout"
	"reflinksr/internal/loop"
	"reflinksr/sr"
	"reflinksr/volume"
)

// session is one datapath call's hold on a volume on this host.
type session struct {
	uri, handle string
	key         sr.Key
	me          hostinfo.Host
	state       lease.Note
	unreadable  error // why the note could not be read
	renewal     renewal
	detached    bool // the SR need not be attached: for repairs

	dir   *dirfs.Dir
	name  string
	lock  *dirfs.Lock
	loops lease.Loops // of the volume's files
}

// beginToGiveBack is begin for who gives something back, which never needs room: nil if the
// volume has nothing on this host, and there is no room in /run to find that out properly.
func beginToGiveBack(uri string) (*session, error) {
	v, err := begin(uri)
	if fault.Classify(err) != fault.ErrNoSpace {
		return v, err
	}
	// Whatever has a note has a lock file, which is kept as long.
	if there, e := isNoted(uri); e != nil || there {
		return nil, errors.Join(err, e)
	}
	slog.Warn("there is no room in /run for a lock file, so this volume cannot be attached here", "uri", uri, "err", err)
	return nil, nil
}

// begin locks the volume on this host and reads its state.
func begin(uri string) (*session, error) {
	handle, uuid, key, err := volume.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	path, _, err := layout.ParseHandle(handle)
	if err != nil {
		return nil, err
	}
	v := &session{uri: uri, handle: handle, key: key, name: lease.NoteName(uuid, key), loops: lease.LoopsOf(path, key)}
	if v.me, err = hostinfo.ThisHost(); err != nil {
		return nil, err
	}
	if v.dir, err = notes(); err != nil {
		return nil, err
	}
	if v.lock, err = v.dir.Lock(v.name+".lock", "volume "+string(key)+" on this host"); err != nil {
		v.dir.Close()
		return nil, err
	}
	if v.state, err = lease.ReadNote(v.dir, v.name); err != nil {
		v.state, v.unreadable = lease.Note{}, fmt.Errorf("volume %s: what is attached on this host cannot be read from %s/%s.json (%w): detach the volume from all its domains", key, v.dir.Path(), v.name, err)
	}
	return v, nil
}

// must refuses to go on without a note that can be read. Only detach can.
func (v *session) must() error { return v.unreadable }

// end releases the volume on this host. What is said by an empty note is said as
// well by none.
func (v *session) end() {
	if v.state.Empty() && v.unreadable == nil {
		v.unlink() // first: a link without a note would be found only when the SR is attached
		v.dir.Remove(v.name + ".json")
		v.dir.Remove(v.name + ".json.new")
		v.lock.Discard()
	} else {
		v.lock.Unlock()
	}
	v.dir.Close()
}

func (v *session) save() error {
	if v.unreadable != nil {
		return nil // detach removes it
	}
	if v.state.Empty() {
		// What has happened cannot be refused for a note that stays: once more, then.
		if err := v.dir.Remove(v.name + ".json"); err == nil {
			return nil
		}
		return v.dir.Remove(v.name + ".json")
	}
	data, err := json.Marshal(v.state)
	if err != nil {
		return err
	}
	return v.dir.Republish(v.name+".json", data)
}

// leased is locked for whoever changes the volume's lease.
func (v *session) leased(do func(*sr.SR) error) error {
	return v.locked(func(s *sr.SR) error {
		lock, err := s.LockLeases()
		if err != nil {
			return err
		}
		defer lock.Unlock()
		return do(s)
	})
}

// locked runs do with the SR open and the volume locked in it: shared, so that a
// snapshot that takes long does not hold up a guest. The lock on this host keeps
// datapath calls apart, and who destroys or reverts the volume has it alone.
func (v *session) locked(do func(*sr.SR) error) error {
	return v.with(do, func(s *sr.SR) (*dirfs.Lock, error) { return s.LockVolume(v.key, dirfs.Shared) })
}

// alone is locked for who needs the volume for itself, and does not wait for that: ErrBusy.
func (v *session) alone(do func(*sr.SR) error) error {
	return v.with(do, func(s *sr.SR) (*dirfs.Lock, error) { return s.TryVolume(v.key, dirfs.Exclusive) })
}

func (v *session) with(do func(*sr.SR) error, lockIn func(*sr.SR) (*dirfs.Lock, error)) error {
	s, err := v.open()
	if err != nil {
		return err
	}
	defer s.Close()
	lock, err := lockIn(s)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return do(s)
}

func (v *session) open() (*sr.SR, error) {
	if !v.detached {
		return sr.Open(v.handle, dirfs.Shared)
	}
	path, uuid, err := layout.ParseHandle(v.handle)
	if err != nil {
		return nil, err
	}
	return sr.OpenAt(path, uuid, dirfs.Shared)
}

// devicesOf lists the devices of a file of the volume: also those that another program has bound to it.
func (v *session) devicesOf(dev, ino uint64) ([]loop.Device, error) {
	all, err := v.loops()
	if err != nil {
		return nil, err
	}
	return all.Of(dev, ino, string(v.key))
}

// devices lists the devices of the file that the state speaks of: the one that it names, if that is there.
func (v *session) devices() ([]loop.Device, error) {
	if v.state.Ino == 0 {
		return nil, nil
	}
	if d, there := v.state.DeviceOf(v.state.Dev, v.state.Ino); there {
		return []loop.Device{d}, nil
	}
	return v.devicesOf(v.state.Dev, v.state.Ino)
}

func checkDomain(domain string) error {
	if domain == "" || len(domain) > 4096 {
		return fault.Errorf(fault.ErrInvalid, "domain", "a domain must have 1 to 4096 bytes")
	}
	return nil
}
