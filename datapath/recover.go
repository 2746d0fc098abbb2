package datapath

import (
	"errors"
	"log/slog"
	"slices"
	"strings"

	"reflinksr/datapath/lease"
	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/rundir"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Recover removes, when an SR is attached, what a crash of this host left: leases
// of a former boot, nonpersistent disks that have served their guest, devices that
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
	if e := lease.SweepLocks(s.Meta.UUID); e != nil {
		slog.Warn("locks of notes stay until the SR is attached again", "sr", s.Path, "err", e)
	}
	if e := sweepLinks(s); e != nil {
		slog.Warn("links to files of disks that nobody has stay until the SR is attached again", "sr", s.Path, "err", e)
	}
	s.Close() // each volume opens it again
	for uri, what := range uris {
		if e := recoverVolume(uri, what, how); e != nil {
			slog.Warn("recovering a volume's datapath", "uri", uri, "err", e)
			err = errors.Join(err, e)
		}
	}
	return err
}

// leftover is what a volume's datapath may have left. forgotten: the note of a volume that
// is no more.
type leftover struct{ nonpersistent, renewed, lease, device, forgotten bool }

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
	dir, err := rundir.Open(rundir.Volumes)
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
		l := leftoverOf(key, me, note, staged, leases, how.first)
		if l != (leftover{}) {
			found[volume.URI(s, key)] = l
		}
	}
	return found, addForgotten(s, dir, found)
}

// leftoverOf tells what a volume's datapath may have left, by what is noted of it and the names of all that is staged and
// leased. first: other hosts' nonpersistent disks are of what is no more.
func leftoverOf(key sr.Key, me hostinfo.Host, note lease.Note, staged, leases []string, first bool) leftover {
	return leftover{
		nonpersistent: slices.Contains(staged, note.NonpersistentName(key, me)) || first && slices.ContainsFunc(staged, ofNonpersistent(key)),
		renewed:       slices.Contains(staged, sr.Renewed(key)),
		lease:         slices.Contains(leases, string(key)),
		device:        note.Stuck,
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
	if what.renewed {
		if err := v.locked(v.undoRenewal); err != nil {
			return err
		}
	}
	todo := what.remedy(v.state, how.first)
	if todo.unbind {
		_, err := v.unbind()
		if err = errors.Join(err, v.save()); err != nil {
			return err
		}
	}
	if todo.discard {
		if err := v.removeNonpersistent(); err != nil {
			return err
		}
	}
	if todo.discardOthers {
		if err := v.removeOthersNonpersistent(); err != nil {
			return err
		}
	}
	switch {
	case todo.sweep:
		return v.publishWith(lease.Sweep)
	case todo.publish:
		return v.publishWith(lease.Publish)
	}
	return nil
}

// remedy is what recovery does of a volume that is there.
type remedy struct {
	unbind        bool // its devices go
	discard       bool // its nonpersistent disk of this host goes
	discardOthers bool // those of other hosts, and of this one when it had another identity
	publish       bool // whoever is of another boot of this host goes from its lease
	sweep         bool // so does whoever is not of this boot
}

// remedy decides by what is noted of the volume now that it is locked: what a domain has is
// left alone.
//
// A nonpersistent disk that was opened and waits to be attached is kept. One that has
// served its guest goes, but is not forgotten: attach must not present the volume
// instead.
func (what leftover) remedy(note lease.Note, first bool) remedy {
	idle := len(note.Domains) == 0
	return remedy{
		unbind:        what.device && note.Stuck && idle,
		discard:       what.nonpersistent && idle && (note.Used || !note.Nonpersistent),
		discardOthers: what.nonpersistent && first,
		publish:       what.lease && !first,
		sweep:         what.lease && first,
	}
}
