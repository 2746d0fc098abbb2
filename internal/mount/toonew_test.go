package mount

import (
	"errors"
	"strings"
	"testing"

	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/xfs"
)

// Who is refused an XFS learns which features, and which host can mount it.
func TestTooNew(t *testing.T) {
	dom0 := hostinfo.Kernel{Major: 4, Minor: 19}
	for _, c := range []struct {
		f      xfs.Features
		kernel hostinfo.Kernel
		says   []string // nil: something else is the matter
	}{
		{xfs.Features{ROCompat: 0xd, Incompat: 0xb}, dom0, []string{"/dev/sdz", "with inobtcount, bigtime, which", "4.19", "Linux 5.10 or later"}},
		{xfs.Features{ROCompat: 0xd, Incompat: 0x2b}, hostinfo.Kernel{Major: 5, Minor: 15}, []string{"with nrext64, which", "5.15", "Linux 5.19 or later"}},
		{xfs.Features{ROCompat: 0x5, Incompat: 1 << 28}, hostinfo.Kernel{Major: 6, Minor: 12}, []string{"incompat 0x10000000", "a newer Linux"}},
		{xfs.Known419, dom0, nil},
		{xfs.Features{}, dom0, nil},
	} {
		err := tooNew("/dev/sdz", c.f, c.kernel)
		if (err == nil) != (c.says == nil) || err != nil && !errors.Is(err, fault.ErrUnsuitable) {
			t.Errorf("%+v: %v", c.f, err)
			continue
		}
		for _, text := range c.says {
			if !strings.Contains(err.Error()+"; "+fault.HintOf(err), text) {
				t.Errorf("%+v: %v does not say %q", c.f, err, text)
			}
		}
	}
}
