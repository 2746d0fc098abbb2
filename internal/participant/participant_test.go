package participant

import (
	"encoding/json"
	"errors"
	"testing"

	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
)

// What is no note of this version is told from one that is damaged.
func TestParse(t *testing.T) {
	for text, want := range map[string]error{`{"format":1,"host":"h"}`: nil, `{"format":99}`: fault.ErrNewer, `{}`: fault.ErrDamaged, `x`: fault.ErrDamaged} {
		if _, err := parse([]byte(text), "p"); !errors.Is(err, want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Another machine is not taken for this one in another boot, nor the other way round.
func TestMayReplace(t *testing.T) {
	me := Host{Format: 1, Host: "h", Boot: "now", Hardware: hostinfo.Hardware{System: "u", NICs: []string{"m"}}}
	for _, c := range []struct {
		why     string
		there   Host
		refused bool
	}{
		{"this boot", Host{Boot: "now", Hardware: hostinfo.Hardware{System: "x", NICs: []string{"y"}}}, false},
		{"a former boot", Host{Boot: "then", Hardware: me.Hardware}, false},
		{"another machine", Host{Boot: "then", Hardware: hostinfo.Hardware{System: "v", NICs: []string{"n"}}}, true},
		{"nobody can tell", Host{Boot: "then"}, false},
	} {
		if err := me.MayReplace(c.there, "/sr"); (err != nil) != c.refused || err != nil && !errors.Is(err, fault.ErrSRInUse) {
			t.Errorf("%s: %v", c.why, err)
		}
	}
}

func FuzzHost(f *testing.F) {
	f.Add([]byte(`{"format":1,"host":"h","boot":"b","hardware":{"system":"u","nics":["m"]},"name":"n"}`))
	f.Add([]byte(`{"format":99}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parse(data, "/sr/hosts/h")
		if err != nil {
			if c := fault.Classify(err); c != fault.ErrDamaged && c != fault.ErrNewer {
				t.Fatal(err)
			}
			return
		}
		if out, err := json.Marshal(m); err != nil {
			t.Fatal(err)
		} else if _, err := parse(out, ""); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
	})
}
