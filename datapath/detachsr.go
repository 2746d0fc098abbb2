package datapath

import (
	"fmt"
	"log/slog"

	"reflinksr/datapath/lease"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/rundir"
	"reflinksr/sr"
	"reflinksr/volume"
)

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
	dir, err := rundir.Open(rundir.Volumes)
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
		if _, err := v.ending(path); err != nil {
			slog.Warn("a volume was attached while its SR was detached", "key", v.key, "err", err)
			return nil
		}
		v.state = lease.Note{}
		return nil
	})
}

// ending looks how the volume's datapath is to end, and refuses if a domain has a device of it.
func (v *session) ending(path string) (ending, error) {
	devices, err := v.devices()
	if err != nil {
		return ending{}, err
	}
	if lock := v.state.Locked(); lock != nil {
		return ending{}, fault.Hint(fault.Errorf(fault.ErrSRInUse, path, "SR %s is in use: volume %s has %s", path, v.key, lock), "unlock it first")
	}
	end := endingOf(v.state, len(devices))
	if end.refused {
		return end, fault.Hint(fault.Errorf(fault.ErrSRInUse, path, "SR %s is in use: volume %s is attached as %s to domain %s", path, v.key, devices[0].Path(), v.state.Domains[0]),
			"detach it first")
	}
	return end, nil
}

// ending is what is done of a volume's datapath when its SR is detached.
type ending struct {
	refused bool // a domain has a device of it
	unbind  bool // a device that could not be unbound before
	discard bool // a nonpersistent disk that was never closed
}

// endingOf decides by what is noted, and how many devices there are. A domain without a
// device has nothing that it could lose: its attach did not come to its end.
func endingOf(note lease.Note, devices int) ending {
	if devices > 0 && len(note.Domains) > 0 {
		return ending{refused: true}
	}
	return ending{unbind: note.Stuck, discard: note.Nonpersistent}
}

// reconcile ends what there is of a volume's datapath, unless a domain has a device of it.
func (v *session) reconcile(path string) error {
	end, err := v.ending(path)
	if err != nil {
		return err
	}
	if end.unbind {
		_, err := v.unbind()
		if fault.IsIO(err) {
			return fmt.Errorf("SR %s: volume %s has a device that cannot be detached: %w", path, v.key, err)
		}
		if err != nil {
			return fault.Errorf(fault.ErrSRInUse, path, "SR %s is in use: volume %s has a device that cannot be detached: %v", path, v.key, err)
		}
	}
	if end.discard {
		if err := v.removeNonpersistent(); err != nil {
			slog.Warn("a volume's nonpersistent disk stays until the SR is attached again", "key", v.key, "err", err)
		}
	}
	return nil
}
