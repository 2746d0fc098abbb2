package sr

import (
	"encoding/json"
	"errors"
	"testing"

	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
)

// Another machine is not taken for this one in another boot, nor the other way round.
func TestParticipantMayReplace(t *testing.T) {
	me := Participant{Format: 1, Host: "h", Boot: "now", Hardware: hostinfo.Hardware{System: "u", NICs: []string{"m"}}}
	for _, c := range []struct {
		why     string
		there   Participant
		refused bool
	}{
		{"this boot", Participant{Boot: "now", Hardware: hostinfo.Hardware{System: "x", NICs: []string{"y"}}}, false},
		{"a former boot", Participant{Boot: "then", Hardware: me.Hardware}, false},
		{"another machine", Participant{Boot: "then", Hardware: hostinfo.Hardware{System: "v", NICs: []string{"n"}}}, true},
		{"nobody can tell", Participant{Boot: "then"}, false},
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
