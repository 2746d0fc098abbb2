package sr

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/attached"
	"reflinksr/internal/fault"
)

// The old state or the new one: every place that the two files of a volume can be in, and
// what recovery makes of it.
func TestRemedy(t *testing.T) {
	for _, c := range []struct {
		why  string
		w    whereabouts
		want remedy
	}{
		{"a volume", whereabouts{record: true, data: true}, remedy{}},
		{"a volume, and something staged", whereabouts{record: true, data: true, stagedData: true}, remedy{}},
		{"a creation whose last step was lost", whereabouts{record: true, stagedData: true}, remedy{place: true}},
		{"the same, and a record of an interrupted change", whereabouts{record: true, stagedData: true, stagedRecord: true}, remedy{place: true}},
		{"a volume whose data is nowhere", whereabouts{record: true}, remedy{}},
		{"a creation before its commit, or a destruction after it", whereabouts{stagedRecord: true}, remedy{erase: true, forget: true}},
		{"nothing but staged data, or a lease", whereabouts{}, remedy{forget: true}},
	} {
		if got := c.w.remedy(); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.why, got, c.want)
		}
	}
	// Data that no record tells of, in root or staged, is never put in place, and what is in
	// root is never removed but for a staged record.
	for n := range 16 {
		w := whereabouts{n&1 != 0, n&2 != 0, n&4 != 0, n&8 != 0}
		got := w.remedy()
		if got.erase && (w.record || !w.stagedRecord) || got.place && (!w.record || w.data || !w.stagedData) || got.forget && w.record {
			t.Errorf("%+v: %+v", w, got)
		}
	}
}

// An SR is attached at one place; what cannot be looked at is not taken for gone.
func TestSucceed(t *testing.T) {
	gone := fault.Errorf(fault.ErrNotAttached, "x", "it is not there")
	here := attached.SR{UUID: "u", Path: "/here", Recovered: true}
	for _, c := range []struct {
		why            string
		before         attached.SR
		unknown, there error
		recovered      bool
		want           error // class, or errno
	}{
		{"never attached", attached.SR{}, os.ErrNotExist, nil, false, nil},
		{"what was noted is damaged", attached.SR{}, fault.Errorf(fault.ErrDamaged, "x", "x"), nil, false, nil},
		{"what was noted cannot be read now", attached.SR{}, unix.EMFILE, nil, false, unix.EMFILE},
		{"attached here", here, nil, nil, true, nil},
		{"attached by the other interface, and gone from there", attached.SR{UUID: "u", Path: "/there", Interface: attached.SMAPIv1}, nil, gone, false, nil},
		{"attached elsewhere, and there", attached.SR{UUID: "u", Path: "/there", Recovered: true}, nil, nil, false, fault.ErrSRInUse},
		{"attached elsewhere, and gone from there", attached.SR{UUID: "u", Path: "/there"}, nil, gone, false, nil},
		{"attached elsewhere, which cannot be looked at", attached.SR{UUID: "u", Path: "/there"}, nil, unix.EIO, false, unix.EIO},
	} {
		a := attached.SR{UUID: "u", Path: "/here"}
		err := succeed(&a, c.before, c.unknown, c.there)
		if !errors.Is(err, c.want) || a.Recovered != c.recovered {
			t.Errorf("%s: %v, recovered %v", c.why, err, a.Recovered)
		}
	}
}
