package sr

import (
	"encoding/json"
	"errors"
	"testing"

	"reflinksr/internal/fault"
)

func TestHardwareSame(t *testing.T) {
	board := func(system string, nics ...string) Hardware { return Hardware{system, nics} }
	for _, c := range []struct {
		why         string
		a, b        Hardware
		same, known bool
	}{
		{"all agrees", board("u", "m"), board("u", "m"), true, true},
		{"a card was added", board("u", "m"), board("u", "m", "n"), true, true},
		{"a card is in another machine now", board("u", "m"), board("v", "m"), false, true},
		{"two boards of a maker with one UUID", board("u", "m"), board("u", "n"), false, true},
		{"no UUID in the firmware", board("", "m"), board("", "m"), true, true},
		{"one of them tells no UUID", board("u", "m"), board("", "m"), true, true},
		{"no cards", board("u"), board("u"), true, true},
		{"nothing that both tell", board("u"), board("", "m"), false, false},
		{"nothing at all", board(""), board(""), false, false},
	} {
		same, known := c.a.Same(c.b)
		if same != c.same || known != c.known {
			t.Errorf("%s: %v, %v", c.why, same, known)
		}
		if again, _ := c.b.Same(c.a); again != same {
			t.Errorf("%s: not the same the other way round", c.why)
		}
	}
}

func TestSystemUUID(t *testing.T) {
	for text, want := range map[string]string{
		"4C4C4544-0042-3510-8054-B7C04F4A4D32\n": "4c4c4544-0042-3510-8054-b7c04f4a4d32",
		"00000000-0000-0000-0000-000000000000":   "",
		"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF":   "",
		"03000200-0400-0500-0006-000700080009":   "",
		"Not Settable":                           "",
		"":                                       "",
	} {
		if got := systemUUID(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// Another machine is not taken for this one in another boot, nor the other way round.
func TestParticipantMayReplace(t *testing.T) {
	me := participant{Format: 1, Host: "h", Boot: "now", Hardware: Hardware{"u", []string{"m"}}}
	for _, c := range []struct {
		why     string
		there   participant
		refused bool
	}{
		{"this boot", participant{Boot: "now", Hardware: Hardware{"x", []string{"y"}}}, false},
		{"a former boot", participant{Boot: "then", Hardware: me.Hardware}, false},
		{"another machine", participant{Boot: "then", Hardware: Hardware{"v", []string{"n"}}}, true},
		{"nobody can tell", participant{Boot: "then"}, false},
	} {
		if err := me.mayReplace(c.there, "/sr"); (err != nil) != c.refused || err != nil && !errors.Is(err, fault.ErrSRInUse) {
			t.Errorf("%s: %v", c.why, err)
		}
	}
}

func FuzzParticipant(f *testing.F) {
	f.Add([]byte(`{"format":1,"host":"h","boot":"b","hardware":{"system":"u","nics":["m"]},"name":"n"}`))
	f.Add([]byte(`{"format":99}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseParticipant(data, "/sr/hosts/h")
		if err != nil {
			if c := fault.Classify(err); c != fault.ErrDamaged && c != fault.ErrNewer {
				t.Fatal(err)
			}
			return
		}
		if out, err := json.Marshal(m); err != nil {
			t.Fatal(err)
		} else if _, err := parseParticipant(out, ""); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
	})
}
