package datapath

import (
	"errors"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/reflink"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Open says what attach will present: the volume itself, or, with persistent
// false, a clone of it as it is now, which close throws away. Whatever an earlier
// session left undone is cleaned up.
func Open(uri string, persistent bool) error { return open(uri, persistent, "") }

// OpenFor is Open for a nonpersistent disk that only one domain gets, and that is gone when it is detached from that. Who attaches
// the volume for another domain never gets it, however OpenFor's caller ends.
func OpenFor(uri, domain string) error {
	if err := checkDomain(domain); err != nil {
		return err
	}
	return open(uri, false, domain)
}

func open(uri string, persistent bool, domain string) error {
	v, err := begin(uri)
	if err != nil {
		return err
	}
	defer v.end()
	if err := v.must(); err != nil {
		return err
	}
	if len(v.state.Domains) > 0 {
		if v.state.Nonpersistent != persistent && v.state.For == domain {
			return v.locked(func(*sr.SR) error { return nil }) // as it is already
		}
		return fault.Hint(fault.Errorf(fault.ErrInUse, string(v.key), "volume %s is in use: attached to domain %s", v.key, v.state.Domains[0]),
			"detach it before opening it with persistent=%v", persistent)
	}
	return v.locked(func(s *sr.SR) error {
		r, err := volume.LoadForChange(s, v.key)
		if err == nil {
			err = r.MustHaveData(v.key)
		}
		if err != nil {
			return err
		}
		if err := v.removeStale(s); err != nil {
			return err
		}
		v.state.Used, v.state.Host, v.state.For = false, "", domain
		if v.state.Nonpersistent = !persistent; v.state.Nonpersistent {
			v.state.Host = v.me.UUID
			if err := v.makeNonpersistent(s, r); err != nil {
				v.state.Nonpersistent = false
				return err
			}
		}
		if err := v.save(); err != nil {
			v.state.Nonpersistent = false
			return errors.Join(err, v.removeStale(s))
		}
		return nil
	})
}

// makeNonpersistent clones the volume. It need not be durable.
func (v *session) makeNonpersistent(s *sr.SR, r *volume.Record) (err error) {
	data, err := volume.OpenData(s, v.key, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer data.Close()
	attrs, err := reflink.AttributesOf(data)
	if err != nil {
		return err
	}
	f, err := s.Staging.Create(v.nonpersistentName())
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			s.Staging.Remove(v.nonpersistentName())
		}
	}()
	if err := attrs.Apply(f); err != nil {
		return err
	}
	if err := reflink.CloneFile(f, data); err != nil {
		return err
	}
	return volume.Align(f)
}

// Close ends what Open began: the nonpersistent disk is gone.
func Close(uri string) error {
	v, err := beginToGiveBack(uri)
	if v == nil {
		return err
	}
	defer v.end()
	if err := v.must(); err != nil {
		return err
	}
	if !v.state.Nonpersistent && !v.forgotten() {
		return nil
	}
	if v.state.Nonpersistent && len(v.state.Domains) > 0 {
		return fault.Hint(fault.Errorf(fault.ErrInUse, string(v.key), "volume %s is in use: its nonpersistent disk is attached to domain %s", v.key, v.state.Domains[0]),
			"detach it first")
	}
	return v.discard()
}

// removeStale removes what an earlier session left. On a read-only filesystem that
// is nothing, and only finding out would fail.
func (v *session) removeStale(s *sr.SR) error {
	stale, err := s.Staging.Exists(v.nonpersistentName())
	if err != nil || !stale {
		return err
	}
	return s.Staging.Remove(v.nonpersistentName())
}

// forgotten says whether there is a nonpersistent disk that the note does not tell
// of: its open died before it could.
func (v *session) forgotten() bool {
	s, err := sr.Open(v.handle, dirfs.Unlocked)
	if err != nil {
		return false
	}
	defer s.Close()
	there, err := s.Staging.Exists(v.nonpersistentName())
	if err != nil { // giving back goes on; what is left SR.attach removes
		slog.Error("whether there is a nonpersistent disk cannot be told", "key", v.key, "err", err)
	}
	return there
}

// file opens what attach presents, and says whether it may be written to.
func (v *session) file(s *sr.SR, r *volume.Record) (f *os.File, writable bool, err error) {
	if v.state.Nonpersistent {
		f, err = s.Staging.Open(v.nonpersistentName(), unix.O_RDWR)
		if errors.Is(err, os.ErrNotExist) {
			err = fault.Hint(fault.Errorf(fault.ErrInvalid, v.uri, "volume %s was opened as nonpersistent, and the disk made for that is gone", v.key),
				"open it again")
		}
		return f, true, err
	}
	if r.ReadWrite {
		f, err = volume.OpenReceived(s, v.key, unix.O_RDWR)
		if fault.Classify(err) != fault.ErrReadOnly {
			return f, true, err
		}
		// A filesystem gone read-only can still be read from.
	}
	f, err = volume.OpenReceived(s, v.key, unix.O_RDONLY)
	return f, false, err
}
