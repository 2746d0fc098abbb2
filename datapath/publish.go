package datapath

import (
	"errors"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/sr"
)

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

// publish tells other hosts who of this one has the volume active.
func (v *session) publish() error {
	err := v.publishWith(lease.Publish)
	if errors.Is(err, fault.ErrNotAttached) || errors.Is(err, fault.ErrVolumeNotFound) {
		return nil // there is no lease
	}
	return err
}

// hasFailed says whether an error comes from a filesystem that has failed for good.
func (v *session) hasFailed(err error) bool {
	s, e := sr.Open(v.handle, dirfs.Unlocked)
	if e != nil {
		return false
	}
	defer s.Close()
	return s.HasFailed(err)
}
