package layout

import (
	"encoding/json"
	"testing"

	"reflinksr/internal/fault"
)

// Whatever a marker is accepted as, a change of it takes effect and loses no member,
// known or not.
func FuzzMeta(f *testing.F) {
	f.Add([]byte(`{"format":1,"uuid":"` + aKey + `","name":"n","options":{"sector_size":512}}`))
	f.Add([]byte(`{"format":1,"uuid":"` + aKey + `","de\u017fcription":"d","filesystem":{"type":"xfs","uuid":"u","more":1},"options":{"sector_size":4096,"datacow":true,"other":"x"},"created":"2026-01-01T00:00:00+01:00"}`))
	f.Add([]byte(`{"format":2,"UUID":"` + aKey + `"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMeta("/srv/x", data)
		if err != nil {
			if class := fault.Classify(err); class != fault.ErrUnavailable && class != fault.ErrNewer {
				t.Errorf("%q: %v", data, err)
			}
			return
		}
		was := *m
		m.Name, m.Description = "another", "one"
		out, err := m.Encode()
		if err != nil {
			return // longer than a record may be
		}
		again, err := parseMeta("/srv/x", out)
		if err != nil {
			t.Fatalf("%s became %s: %v", data, out, err)
		}
		if again.Name != "another" || again.Description != "one" {
			t.Errorf("a change of %s had no effect: %s", data, out)
		}
		if again.Format != was.Format || again.UUID != was.UUID || !again.Created.Equal(was.Created) || again.Filesystem != was.Filesystem || again.Options != was.Options {
			t.Errorf("a change of the name changed more than that: %s became %s", data, out)
		}
		if lost := missingMember(data, out); lost != "" {
			t.Errorf("%s became %s: %s was lost", data, out, lost)
		}
	})
}

// missingMember finds a member of an object, or of an object in it, that is not in
// the other.
func missingMember(was, is []byte) string {
	var before, after map[string]json.RawMessage
	if json.Unmarshal(was, &before) != nil || json.Unmarshal(is, &after) != nil {
		return ""
	}
	for name, value := range before {
		now, there := after[name]
		if !there {
			return name
		}
		if lost := missingMember(value, now); lost != "" {
			return name + "." + lost
		}
	}
	return ""
}
