package lease

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode"

	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
)

// A lease that is understood is written as it was read, and nobody in it is lost.
func FuzzLease(f *testing.F) {
	f.Add([]byte(`{"format":1,"holders":[{"host":"4e1d8c5a-3f0b-4a93-8f0e-1a2b3c4d5e6f","boot":"b","domain":"5","write":true,"since":"2026-01-01T00:00:00Z"}]}`))
	f.Add([]byte(`{"format":2,"holders":"other"}`))
	f.Add([]byte(`{"format":1,"holders":null,"HOLDERS":[{"domain":"\u2028"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parseLease(data)
		if l.Format > layout.Format && (!errors.Is(err, fault.ErrNewer) || len(l.Holders) > 0) {
			t.Errorf("a lease of format %d is understood", l.Format)
		}
		if err != nil {
			return
		}
		out, err := json.Marshal(Lease{Format: layout.Format, Holders: l.Holders})
		if err != nil {
			return // a year that JSON cannot write
		}
		again, err := parseLease(out)
		if err != nil || len(again.Holders) != len(l.Holders) {
			t.Fatalf("%s became %s, %v", data, out, err)
		}
		for _, h := range l.Holders {
			if text := h.String(); strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || len(text) > 5000 {
				t.Errorf("a holder is called %q", text)
			}
		}
		for i, h := range again.Holders {
			if was := l.Holders[i]; h.String() != was.String() || h.Host != was.Host || h.Boot != was.Boot || h.Domain != was.Domain || h.Write != was.Write {
				t.Errorf("%+v became %+v", was, h)
			}
		}
	})
}

// A note is written as it was read.
func FuzzNote(f *testing.F) {
	f.Add([]byte(`{"domains":["1"],"active":[{"host":"` + "4e1d8c5a-3f0b-4a93-8f0e-1a2b3c4d5e6f" + `","domain":"1","write":true}],"throw_away":true,"dev":65,"ino":18446744073709551615}`))
	f.Add([]byte(`{"domains":[null,"\ud800"],"ino":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := parseNote(data)
		if err != nil {
			return
		}
		out, err := json.Marshal(n)
		if err != nil {
			return // a year that JSON cannot write
		}
		again, err := parseNote(out)
		if err != nil || again.Empty() != n.Empty() || !slices.Equal(again.Domains, n.Domains) || len(again.Active) != len(n.Active) ||
			again.Dev != n.Dev || again.Ino != n.Ino || again.Nonpersistent != n.Nonpersistent || again.Used != n.Used || again.Stuck != n.Stuck {
			t.Errorf("%s became %s: %+v, %v", data, out, again, err)
		}
		for _, h := range n.Active {
			if found, ok := again.Holder(h.Domain); !ok || found.Domain != h.Domain {
				t.Errorf("%s became %s, and domain %q is active no more", data, out, h.Domain)
			}
		}
	})
}
