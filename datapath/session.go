package datapath

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"reflinksr/datapath/loop"
	"reflinksr/sr"
	"reflinksr/volume"
)

// session is one datapath call's hold on a volume on this host.
type session struct {
	uri, handle string
	key         sr.Key
	me          sr.Host
	state       volume.Note
	unreadable  error // why the note could not be read
	detached    bool  // the SR need not be attached: for repairs

	dir  *sr.Dir
	name string
	lock *sr.Lock
}

// begin locks the volume on this host and reads its state.
func begin(uri string) (*session, error) {
	handle, uuid, key, err := volume.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	v := &session{uri: uri, handle: handle, key: key, name: volume.NoteName(uuid, key)}
	if v.me, err = sr.ThisHost(); err != nil {
		return nil, err
	}
	if v.dir, err = sr.Runtime(volume.NoteDir); err != nil {
		return nil, err
	}
	if v.lock, err = v.dir.Lock(v.name+".lock", "volume "+string(key)+" on this host"); err != nil {
		v.dir.Close()
		return nil, err
	}
	if v.state, err = volume.ReadNote(v.dir, v.name); err != nil {
		v.state, v.unreadable = volume.Note{}, fmt.Errorf("volume %s: what is attached on this host cannot be read from %s/%s.json (%w): detach the volume from all its domains", key, v.dir.Path(), v.name, err)
	}
	return v, nil
}

// must refuses to go on without a note that can be read. Only detach can.
func (v *session) must() error { return v.unreadable }

// end releases the volume on this host. What is said by an empty note is said as
// well by none.
func (v *session) end() {
	if v.state.Empty() && v.unreadable == nil {
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
	return v.dir.Publish(v.name+".json", data)
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
	s, err := v.open()
	if err != nil {
		return err
	}
	defer s.Close()
	lock, err := s.LockVolume(v.key, sr.Shared)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return do(s)
}

func (v *session) open() (*sr.SR, error) {
	if !v.detached {
		return sr.Open(v.handle, sr.Shared)
	}
	path, uuid, err := sr.ParseHandle(v.handle)
	if err != nil {
		return nil, err
	}
	return sr.OpenAt(path, uuid, sr.Shared)
}

// throwAway is the name of the throw-away disk in staging.
func (v *session) throwAway() string { return volume.ThrowAway(v.key, v.me) }

// devices lists the devices of the file that the state speaks of.
func (v *session) devices() ([]loop.Device, error) {
	if v.state.Ino == 0 {
		return nil, nil
	}
	return loop.Find(v.state.Dev, v.state.Ino, string(v.key))
}

func checkDomain(domain string) error {
	if domain == "" || len(domain) > 4096 {
		return sr.Errorf(sr.ErrInvalid, "domain", "argument \"domain\" must have 1 to 4096 bytes")
	}
	return nil
}

// DetachSR detaches the SR from this host, unless a volume of it has a device
// here. Throw-away disks that nobody has attached go.
//
// That there were any is forgotten last: if the SR can not be detached after all, attach
// must not present the volume instead.
func DetachSR(handle string) error {
	path, uuid, err := sr.ParseHandle(handle)
	if err != nil {
		return err
	}
	dir, err := sr.Runtime(volume.NoteDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Names()
	if err != nil {
		return err
	}
	each := func(do func(*session) error) error {
		for _, name := range names {
			if len(name) != 36+1+36+5 || name[:36] != uuid || name[73:] != ".json" {
				continue
			}
			v, err := begin(volume.URIAt(path, uuid, sr.Key(name[37:73])))
			if err != nil {
				return err
			}
			if err = v.must(); err == nil {
				err = do(v)
			}
			v.end()
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := each(func(v *session) error { return v.settle(path) }); err != nil {
		return err
	}
	if err := sr.Detach(handle); err != nil {
		return err
	}
	return each(func(v *session) error {
		if err := v.unused(path); err != nil {
			slog.Warn("a volume was attached while its SR was detached", "key", v.key, "err", err)
			return nil
		}
		v.state = volume.Note{}
		return nil
	})
}

// unused refuses if a domain has a device of the volume.
func (v *session) unused(path string) error {
	devices, err := v.devices()
	if err == nil && len(devices) > 0 && len(v.state.Domains) > 0 {
		err = sr.Errorf(sr.ErrSRInUse, path, "SR %s is in use: volume %s is attached as %s to domain %s: detach it first", path, v.key, devices[0].Path(), v.state.Domains[0])
	}
	return err
}

// settle ends what there is of a volume's datapath, unless a domain has a device of it: a
// throw-away disk that was never closed, a device that could not be unbound.
func (v *session) settle(path string) error {
	if err := v.unused(path); err != nil {
		return err
	}
	if v.state.Stuck {
		_, err := v.unbind()
		if sr.IsIO(err) {
			return fmt.Errorf("SR %s: volume %s has a device that cannot be detached: %w", path, v.key, err)
		}
		if err != nil {
			return sr.Errorf(sr.ErrSRInUse, path, "SR %s is in use: volume %s has a device that cannot be detached: %v", path, v.key, err)
		}
	}
	if v.state.ThrowAway {
		if err := v.removeThrowAway(); err != nil {
			slog.Warn("a volume's throw-away disk stays until the SR is attached again", "key", v.key, "err", err)
		}
	}
	return nil
}

// Recover removes, when an SR is attached, what a crash of this host left: leases
// of a former boot, throw-away disks that have served their guest, devices that
// could not be unbound, and notes of volumes that are no more.
func Recover(handle string) error {
	s, err := sr.Open(handle, sr.Shared)
	if err != nil {
		return err
	}
	return recoverAll(s, false)
}

// Repair is Recover for an SR that need not be attached.
func Repair(path, uuid string) error {
	s, err := sr.OpenAt(path, uuid, sr.Shared)
	if err != nil {
		return err
	}
	return recoverAll(s, true)
}

func recoverAll(s *sr.SR, detached bool) error {
	uris, err := unfinished(s)
	s.Close() // each volume opens it again
	for uri, what := range uris {
		if err := recoverVolume(uri, what, detached); err != nil {
			slog.Warn("recovering a volume's datapath", "uri", uri, "err", err)
		}
	}
	return err
}

// leftover is what a volume's datapath may have left. lost: the note of a volume that
// is no more.
type leftover struct{ throwAway, lease, device, lost bool }

// unfinished looks for volumes with something to recover, by URI.
func unfinished(s *sr.SR) (map[string]leftover, error) {
	me, err := sr.ThisHost()
	if err != nil {
		return nil, err
	}
	keys, err := volume.Keys(s)
	if err != nil {
		return nil, err
	}
	staged, err := s.Staging.Names()
	if err != nil {
		return nil, err
	}
	leases, err := s.Leases.Names()
	if err != nil {
		return nil, err
	}
	dir, err := sr.Runtime(volume.NoteDir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	found := map[string]leftover{}
	for _, key := range keys {
		note, err := volume.ReadNote(dir, volume.NoteName(s.Meta.UUID, key))
		if err != nil {
			slog.Error("what is attached of a volume cannot be read", "key", key, "err", err)
		}
		l := leftover{
			throwAway: slices.Contains(staged, volume.ThrowAway(key, me)),
			lease:     slices.Contains(leases, string(key)),
			device:    note.Stuck,
		}
		if l != (leftover{}) {
			found[volume.URI(s, key)] = l
		}
	}
	return found, addLost(s, dir, found)
}

// addLost adds what is noted of volumes that are no more.
func addLost(s *sr.SR, dir *sr.Dir, found map[string]leftover) error {
	names, err := dir.Names()
	for _, name := range names {
		name, ok := strings.CutPrefix(name, volume.NoteName(s.Meta.UUID, ""))
		if !ok {
			continue
		}
		name, ok = strings.CutSuffix(name, ".json")
		key, malformed := sr.ParseKey(name)
		if !ok || malformed != nil {
			continue
		}
		if there, e := s.Root.Exists(sr.Record(key)); e != nil || there {
			err = errors.Join(err, e)
			continue
		}
		found[volume.URI(s, key)] = leftover{lost: true}
	}
	return err
}

// forgetLost forgets a volume that is no more, if it has no device either: who has
// that must detach it first.
func (v *session) forgetLost() error {
	devices, err := v.devices()
	if err != nil || len(devices) > 0 {
		return err
	}
	err = v.locked(func(*sr.SR) error { return nil })
	if !errors.Is(err, sr.ErrVolumeNotFound) {
		return err // it is there after all
	}
	v.state = volume.Note{}
	return nil
}

func recoverVolume(uri string, what leftover, detached bool) error {
	v, err := begin(uri)
	if err != nil {
		return err
	}
	defer v.end()
	v.detached = detached
	if err := v.must(); err != nil {
		return err
	}
	if what.lost {
		return v.forgetLost()
	}
	if what.device && v.state.Stuck && len(v.state.Domains) == 0 {
		_, err := v.unbind()
		if err = errors.Join(err, v.save()); err != nil {
			return err
		}
	}
	// A throw-away disk that was opened and waits to be attached is kept. One that has
	// served its guest goes, but is not forgotten: attach must not present the volume
	// instead.
	if what.throwAway && len(v.state.Domains) == 0 && (v.state.Used || !v.state.ThrowAway) {
		if err := v.removeThrowAway(); err != nil {
			return err
		}
	}
	if !what.lease {
		return nil
	}
	return v.leased(func(s *sr.SR) error { return volume.PublishLease(s, v.key, v.me, v.state.Active) })
}

// discard removes the throw-away disk, of this or a forgotten session, and
// forgets it.
func (v *session) discard() error {
	if err := v.removeThrowAway(); err != nil {
		return err
	}
	v.state.ThrowAway, v.state.Used = false, false
	return v.save()
}

func (v *session) removeThrowAway() error {
	err := v.locked(func(s *sr.SR) error { return s.Staging.Remove(v.throwAway()) })
	if err != nil && !errors.Is(err, sr.ErrVolumeNotFound) && !errors.Is(err, sr.ErrNotAttached) {
		return fmt.Errorf("volume %s: discarding its throw-away disk: %w", v.key, err)
	}
	return nil
}
