package datapath

import (
	"errors"
	"fmt"
	"strings"

	"reflinksr/internal/fault"
	"reflinksr/sr"
)

// nonpersistentName is the name of the nonpersistent disk in staging.
func (v *session) nonpersistentName() string { return v.state.NonpersistentName(v.key, v.me) }

// ofNonpersistent picks the staging names of a volume's nonpersistent disks, of whatever host.
func ofNonpersistent(key sr.Key) func(name string) bool {
	return func(name string) bool {
		return strings.HasPrefix(name, string(key)+".") && strings.HasSuffix(name, sr.NonpersistentSuffix)
	}
}

// discard removes the nonpersistent disk, of this or a forgotten session, and
// forgets it.
func (v *session) discard() error {
	if err := v.removeNonpersistent(); err != nil {
		return err
	}
	v.state.Nonpersistent, v.state.For, v.state.Used = false, "", false
	return v.save()
}

// mayHave refuses a domain a volume of which another has a nonpersistent disk for itself. What is left of that, when the other
// has gone without a word, is discarded.
func (v *session) mayHave(s *sr.SR, domain string) error {
	if !v.state.Nonpersistent || v.state.For == "" || v.state.For == domain {
		return nil
	}
	if len(v.state.Domains) > 0 {
		return fault.Hint(fault.Errorf(fault.ErrInUse, string(v.key), "volume %s is in use: a copy of it that is thrown away is attached to domain %s, for that alone", v.key, v.state.For),
			"detach it there (srctl umount)")
	}
	if err := v.removeStale(s); err != nil {
		return err
	}
	v.state.Nonpersistent, v.state.For, v.state.Used = false, "", false
	return nil
}

func (v *session) removeNonpersistent() error {
	err := v.locked(func(s *sr.SR) error { return s.Staging.Remove(v.nonpersistentName()) })
	if err != nil && !errors.Is(err, fault.ErrVolumeNotFound) && !errors.Is(err, fault.ErrNotAttached) {
		return fmt.Errorf("volume %s: discarding its nonpersistent disk: %w", v.key, err)
	}
	return nil
}

// removeOthersNonpersistent removes the nonpersistent disks of what this host was called in former
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
				return errors.Join(err, fault.Errorf(fault.ErrInUse, string(v.key), "volume %s: its nonpersistent disk %s has a device, and stays", v.key, name))
			}
			if err := s.Staging.Remove(name); err != nil {
				return err
			}
		}
		return nil
	})
}
