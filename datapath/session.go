package datapath

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"reflinksr/datapath/lease"
	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/layout"
	"reflinksr/internal/loop"
	"reflinksr/internal/mountinfo"
	"reflinksr/internal/rundir"
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
	detached    bool  // the SR need not be attached: for repairs

	dir  *dirfs.Dir
	name string
	lock *dirfs.Lock
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

// isNoted says whether this host has a note of the volume.
func isNoted(uri string) (bool, error) {
	_, uuid, key, err := volume.ParseURI(uri)
	if err != nil {
		return false, err
	}
	dir, err := rundir.Look(lease.NoteDir)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer dir.Close()
	return dir.Exists(lease.NoteName(uuid, key) + ".json")
}

// notes opens the directory of notes, made if absent. One that is there needs no room.
func notes() (*dirfs.Dir, error) {
	dir, err := rundir.Look(lease.NoteDir)
	if errors.Is(err, os.ErrNotExist) {
		return rundir.Open(lease.NoteDir)
	}
	return dir, err
}

// begin locks the volume on this host and reads its state.
func begin(uri string) (*session, error) {
	handle, uuid, key, err := volume.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	v := &session{uri: uri, handle: handle, key: key, name: lease.NoteName(uuid, key)}
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
	s, err := v.open()
	if err != nil {
		return err
	}
	defer s.Close()
	lock, err := s.LockVolume(v.key, dirfs.Shared)
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

// nonpersistentName is the name of the throw-away disk in staging.
func (v *session) nonpersistentName() string { return v.state.NonpersistentName(v.key, v.me) }

// loops lists the loop devices of this host that may be of the SR's files.
func (v *session) loops() (loop.Bound, error) {
	all, err := loop.List()
	if err != nil || !all.Any(string(v.key)) {
		return all, err
	}
	path, _, err := layout.ParseHandle(v.handle)
	if err != nil {
		return nil, err
	}
	return all.Where(mountinfo.Near(path)), nil
}

// devicesOf lists the devices of a file of the volume.
func (v *session) devicesOf(dev, ino uint64) ([]loop.Device, error) {
	all, err := v.loops()
	if err != nil {
		return nil, err
	}
	return all.Of(dev, ino, string(v.key))
}

// devices lists the devices of the file that the state speaks of.
func (v *session) devices() ([]loop.Device, error) {
	if v.state.Ino == 0 {
		return nil, nil
	}
	return v.devicesOf(v.state.Dev, v.state.Ino)
}

func checkDomain(domain string) error {
	if domain == "" || len(domain) > 4096 {
		return fault.Errorf(fault.ErrInvalid, "domain", "argument \"domain\" must have 1 to 4096 bytes")
	}
	return nil
}

// DetachSR detaches the SR from this host, unless a volume of it has a device
// here. Throw-away disks that nobody has attached go.
//
// That there were any is forgotten last: if the SR can not be detached after all, attach
// must not present the volume instead.
func DetachSR(handle string) error {
	path, uuid, err := layout.ParseHandle(handle)
	if err != nil {
		return err
	}
	dir, err := rundir.Open(lease.NoteDir)
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
	if err := each(func(v *session) error { return v.reconcile(path) }); err != nil {
		return err
	}
	if err := sr.Detach(handle); err != nil {
		return err
	}
	defer func() {
		if err := lease.SweepLocks(uuid); err != nil {
			slog.Warn("locks of notes stay until the SR is attached again", "sr", path, "err", err)
		}
	}()
	return each(func(v *session) error {
		if err := v.unused(path); err != nil {
			slog.Warn("a volume was attached while its SR was detached", "key", v.key, "err", err)
			return nil
		}
		v.state = lease.Note{}
		return nil
	})
}

// unused refuses if a domain has a device of the volume.
func (v *session) unused(path string) error {
	devices, err := v.devices()
	if err == nil && len(devices) > 0 && len(v.state.Domains) > 0 {
		err = fault.Errorf(fault.ErrSRInUse, path, "SR %s is in use: volume %s is attached as %s to domain %s: detach it first", path, v.key, devices[0].Path(), v.state.Domains[0])
	}
	return err
}

// reconcile ends what there is of a volume's datapath, unless a domain has a device of it: a
// throw-away disk that was never closed, a device that could not be unbound.
func (v *session) reconcile(path string) error {
	if err := v.unused(path); err != nil {
		return err
	}
	if v.state.Stuck {
		_, err := v.unbind()
		if fault.IsIO(err) {
			return fmt.Errorf("SR %s: volume %s has a device that cannot be detached: %w", path, v.key, err)
		}
		if err != nil {
			return fault.Errorf(fault.ErrSRInUse, path, "SR %s is in use: volume %s has a device that cannot be detached: %v", path, v.key, err)
		}
	}
	if v.state.Nonpersistent {
		if err := v.removeNonpersistent(); err != nil {
			slog.Warn("a volume's throw-away disk stays until the SR is attached again", "key", v.key, "err", err)
		}
	}
	return nil
}

// Recover removes, when an SR is attached, what a crash of this host left: leases
// of a former boot, throw-away disks that have served their guest, devices that
// could not be unbound, and notes of volumes that are no more.
func Recover(handle string) error {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return err
	}
	recovered, err := attached.Recovered(handle)
	if err != nil {
		s.Close()
		return err
	}
	if err := recoverAll(s, recovery{first: !recovered}); err != nil {
		return err
	}
	return attached.SetRecovered(handle)
}

// Repair is Recover for an SR that need not be attached.
func Repair(path, uuid string) error {
	s, err := sr.OpenAt(path, uuid, dirfs.Shared)
	if err != nil {
		return err
	}
	return recoverAll(s, recovery{first: true, detached: true})
}

// recovery is how an SR is recovered.
type recovery struct {
	// first: nothing of this boot is in the SR that is not noted, so where only this host can
	// have the filesystem mounted, all that is of others is of what is no more, whatever this
	// host was called then.
	first    bool
	detached bool // the SR need not be attached
}

func recoverAll(s *sr.SR, how recovery) error {
	how.first = how.first && !s.Meta.Filesystem.Clustered()
	uris, err := unfinished(s, how)
	err = errors.Join(err, lease.SweepLocks(s.Meta.UUID))
	s.Close() // each volume opens it again
	for uri, what := range uris {
		if e := recoverVolume(uri, what, how); e != nil {
			slog.Warn("recovering a volume's datapath", "uri", uri, "err", e)
			err = errors.Join(err, e)
		}
	}
	return err
}

// leftover is what a volume's datapath may have left. lost: the note of a volume that
// is no more.
type leftover struct{ nonpersistent, lease, device, forgotten bool }

// unfinished looks for volumes with something to recover, by URI.
func unfinished(s *sr.SR, how recovery) (map[string]leftover, error) {
	me, err := hostinfo.ThisHost()
	if err != nil {
		return nil, err
	}
	keys, err := s.Remember(func() ([]sr.Key, error) { return volume.Keys(s) })
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
	dir, err := rundir.Open(lease.NoteDir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	found := map[string]leftover{}
	for _, key := range keys {
		note, err := lease.ReadNote(dir, lease.NoteName(s.Meta.UUID, key))
		if err != nil {
			slog.Error("what is attached of a volume cannot be read", "key", key, "err", err)
		}
		l := leftover{
			nonpersistent: slices.Contains(staged, note.NonpersistentName(key, me)) || how.first && slices.ContainsFunc(staged, ofNonpersistent(key)),
			lease:         slices.Contains(leases, string(key)),
			device:        note.Stuck,
		}
		if l != (leftover{}) {
			found[volume.URI(s, key)] = l
		}
	}
	return found, addForgotten(s, dir, found)
}

// ofNonpersistent picks the staging names of a volume's throw-away disks, of whatever host.
func ofNonpersistent(key sr.Key) func(name string) bool {
	return func(name string) bool {
		return strings.HasPrefix(name, string(key)+".") && strings.HasSuffix(name, sr.NonpersistentSuffix)
	}
}

// addForgotten adds what is noted of volumes that are no more.
func addForgotten(s *sr.SR, dir *dirfs.Dir, found map[string]leftover) error {
	names, err := dir.Names()
	for _, name := range names {
		name, ok := strings.CutPrefix(name, lease.NoteName(s.Meta.UUID, ""))
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
		found[volume.URI(s, key)] = leftover{forgotten: true}
	}
	return err
}

// removeForgotten forgets a volume that is no more, if it has no device either: who has
// that must detach it first.
func (v *session) removeForgotten() error {
	devices, err := v.devices()
	if err != nil || len(devices) > 0 {
		return err
	}
	err = v.locked(func(*sr.SR) error { return nil })
	if !errors.Is(err, fault.ErrVolumeNotFound) {
		return err // it is there after all
	}
	v.state = lease.Note{}
	return nil
}

func recoverVolume(uri string, what leftover, how recovery) error {
	v, err := begin(uri)
	if err != nil {
		return err
	}
	defer v.end()
	v.detached = how.detached
	if err := v.must(); err != nil {
		return err
	}
	if what.forgotten {
		return v.removeForgotten()
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
	if what.nonpersistent && len(v.state.Domains) == 0 && (v.state.Used || !v.state.Nonpersistent) {
		if err := v.removeNonpersistent(); err != nil {
			return err
		}
	}
	if what.nonpersistent && how.first {
		if err := v.removeOthersNonpersistent(); err != nil {
			return err
		}
	}
	if !what.lease {
		return nil
	}
	if how.first {
		return v.publishWith(lease.Sweep)
	}
	return v.publishWith(lease.Publish)
}

// removeOthersNonpersistent removes the throw-away disks of what this host was called in former
// boots, or of hosts that had the filesystem before.
func (v *session) removeOthersNonpersistent() error {
	return v.locked(func(s *sr.SR) error {
		names, err := s.Staging.Names()
		if err != nil {
			return err
		}
		for _, name := range names {
			if !ofNonpersistent(v.key)(name) || name == v.nonpersistentName() {
				continue
			}
			st, err := s.Staging.Stat(name)
			if err != nil {
				return err
			}
			if devices, err := v.devicesOf(st.Dev, st.Ino); err != nil || len(devices) > 0 {
				return errors.Join(err, fault.Errorf(fault.ErrInUse, string(v.key), "volume %s: its throw-away disk %s has a device, and stays", v.key, name))
			}
			if err := s.Staging.Remove(name); err != nil {
				return err
			}
		}
		return nil
	})
}

// publishWith changes the volume's lease, unless it is a stranger's.
func (v *session) publishWith(publish func(*sr.SR, sr.Key, hostinfo.Host, []lease.Holder) error) error {
	return v.leased(func(s *sr.SR) error {
		strangers, err := v.strangers(s)
		if err != nil || len(strangers) > 0 {
			return err
		}
		return publish(s, v.key, v.me, v.state.Active)
	})
}

// strangers are those who have the volume active without this boot of this host knowing of
// them, though it has a device for them: other boots are over, but not if their devices are
// there. (Two hosts in containers of one kernel are so; nothing else is known to be.)
func (v *session) strangers(s *sr.SR) ([]lease.Holder, error) {
	if len(v.state.Domains) > 0 {
		return nil, nil
	}
	all, err := v.loops()
	if err != nil || !all.Any(string(v.key)) {
		return nil, err
	}
	for _, file := range v.filesIn(s) {
		devices, err := all.Of(file[0], file[1], string(v.key))
		if err != nil {
			return nil, err
		}
		if len(devices) > 0 {
			return lease.Strangers(s, v.key, v.me)
		}
	}
	return nil, nil
}

// discard removes the throw-away disk, of this or a forgotten session, and
// forgets it.
func (v *session) discard() error {
	if err := v.removeNonpersistent(); err != nil {
		return err
	}
	v.state.Nonpersistent, v.state.Used = false, false
	return v.save()
}

func (v *session) removeNonpersistent() error {
	err := v.locked(func(s *sr.SR) error { return s.Staging.Remove(v.nonpersistentName()) })
	if err != nil && !errors.Is(err, fault.ErrVolumeNotFound) && !errors.Is(err, fault.ErrNotAttached) {
		return fmt.Errorf("volume %s: discarding its throw-away disk: %w", v.key, err)
	}
	return nil
}
