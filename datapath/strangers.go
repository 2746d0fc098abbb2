package datapath

import (
	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/sr"
)

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

// isStrange says whether the volume has nothing on this host but a device of strangers.
func (v *session) isStrange() (bool, error) {
	if v.unreadable != nil || !v.state.Empty() {
		return false, nil
	}
	s, err := sr.Open(v.handle, dirfs.Unlocked)
	if err != nil {
		return false, err
	}
	defer s.Close()
	strangers, err := v.strangers(s)
	// Of a lease that cannot be read nobody knows whose it is.
	return len(strangers) > 0 || fault.Classify(err) == fault.ErrDamaged || fault.IsIO(err), err
}
