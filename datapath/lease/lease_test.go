package lease

import (
	"errors"
	"testing"

	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/hostinfo"
)

// A lease of another boot is over only if that is certain.
func TestWhoseLease(t *testing.T) {
	me := hostinfo.Host{UUID: "me", Boot: "now"}
	mine := hostinfo.Hardware{System: "u", NICs: []string{"m"}}
	other := hostinfo.Hardware{System: "v", NICs: []string{"n"}}
	local, shared := filesystem.Identity{Type: "xfs"}, filesystem.Identity{Type: "nfs"}
	for _, c := range []struct {
		why  string
		fs   filesystem.Identity
		h    Holder
		want Claim
		code error // of the refusal
	}{
		{"this boot", shared, Holder{Host: "me", Boot: "now", Hardware: &mine}, here, fault.ErrInUse},
		{"this boot, when the host was called otherwise", shared, Holder{Host: "was", Boot: "now"}, here, fault.ErrInUse},
		{"a former boot, local", local, Holder{Host: "me", Boot: "then"}, Over, nil},
		{"another host, local: SR.attach decides", local, Holder{Host: "other", Boot: "x"}, Elsewhere, fault.ErrElsewhere},
		{"a former boot of this machine", shared, Holder{Host: "me", Boot: "then", Hardware: &mine}, Over, nil},
		{"a former boot of this machine, which had no identity", shared, Holder{Host: "then", Boot: "then", Hardware: &mine}, Over, nil},
		{"another machine with the same identity", shared, Holder{Host: "me", Boot: "x", Hardware: &other}, Elsewhere, fault.ErrInUse},
		{"nobody knows which machine", shared, Holder{Host: "me", Boot: "x"}, Elsewhere, fault.ErrInUse},
		{"nothing is known of the machine", shared, Holder{Host: "me", Boot: "x", Hardware: &hostinfo.Hardware{}}, Elsewhere, fault.ErrInUse},
		{"another host", shared, Holder{Host: "other", Boot: "x", Hardware: &other}, Elsewhere, fault.ErrElsewhere},
	} {
		if got := c.h.Claim(me, func() hostinfo.Hardware { return mine }, c.fs); got != c.want {
			t.Errorf("%s: %d", c.why, got)
		}
		if c.code != nil && !errors.Is(c.h.InUse("k", me), c.code) {
			t.Errorf("%s: %v", c.why, c.h.InUse("k", me))
		}
	}
}
