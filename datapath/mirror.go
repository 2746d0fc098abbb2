package datapath

import (
	"errors"
	"fmt"

	"reflinksr/internal/fault"
	"reflinksr/internal/rundir"
	"reflinksr/internal/uuids"
	"reflinksr/sr"
	"reflinksr/volume"
)

// A volume that moves away is mirrored by a process of its own, like one that comes is served. What is known of that is in the same
// directory of rundir, in files that begin with the name of the volume's note:
//
//	.out       how far it is, as JSON: it stays when the process has ended, until the volume goes or another mirror begins
//	.out.lock  the process holds it as long as it lives, and its process number is in it
//	.out.last  a socket: who connects has the process send what was written last, and hears when that is done
const (
	mirrorSuffix     = ".out"
	mirrorLockSuffix = ".out.lock"
	lastSuffix       = ".out.last"
)

// Mirror begins to mirror the volume, which is attached for the domain, and answers what the mirror is called. It returns when its process
// has begun: whether the other side is there, and takes everything, MirrorOf tells.
func Mirror(uri, domain, remote string) (id string, err error) {
	if err := checkDomain(domain); err != nil {
		return "", err
	}
	if _, err := ParseRemote(remote); err != nil {
		return "", err
	}
	v, err := begin(uri)
	if err != nil {
		return "", err
	}
	defer v.end()
	if err := v.must(); err != nil {
		return "", err
	}
	if err := v.mayMirror(domain); err != nil {
		return "", err
	}
	dir, err := rundir.Open(serversDir)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	lock, busy, err := lockServer(dir, v.name+mirrorSuffix)
	if err != nil {
		return "", err
	}
	lock.Close()
	if busy {
		return "", fault.Hint(fault.Errorf(fault.ErrInUse, string(v.key), "volume %s is mirrored already", v.key), "wait until that has ended, or end it by Data.cancel")
	}
	random, err := uuids.Random()
	if err != nil {
		return "", err
	}
	m := MirrorState{ID: v.name + "." + random.String(), URI: uri, Domain: domain, Remote: remote}
	if err := m.write(dir); err != nil {
		return "", err
	}
	if err := startServer(serverProgram(), MirrorAway, uri, m.ID); err != nil {
		return "", errors.Join(fmt.Errorf("volume %s: mirroring it: %w", v.key, err), dir.Remove(v.name+mirrorSuffix))
	}
	return m.ID, nil
}

// mayMirror refuses what cannot be mirrored.
func (v *session) mayMirror(domain string) error {
	switch {
	case !v.state.Attached(domain) && len(v.state.Domains) == 0:
		return fault.Hint(fault.Errorf(fault.ErrInvalid, domain, "volume %s is not attached: it cannot be mirrored", v.key), "attach it first")
	case v.state.Nonpersistent:
		return fault.Errorf(fault.ErrInvalid, v.uri, "volume %s was opened as nonpersistent: what is written to it is of no disk that could be mirrored", v.key)
	case serverProgram() == "":
		return fmt.Errorf("volume %s: %s is not installed beside the plugin, so nothing can be mirrored from here: install reflinksr anew", v.key, ServerProgram)
	}
	return v.locked(func(s *sr.SR) error {
		r, err := volume.LoadForChange(s, v.key)
		if err == nil {
			err = r.MustHaveData(v.key)
		}
		return errors.Join(err, s.MustMapExtents(), volume.MustBeWhole(s, v.key))
	})
}
