package scripts

import (
	"slices"
	"testing"
)

// Lines are taken apart as testscript takes them apart.
func TestSplit(t *testing.T) {
	getenv := func(name string) string { return map[string]string{"VOL": "a b", "X": "x"}[name] }
	for line, want := range map[string][]string{
		"":                           nil,
		"  # nothing":                nil,
		"plug $VOL ro":               {"plug", "a b", "ro"},
		"get VOL .key # its key":     {"get", "VOL", ".key"},
		`call A '{"k":"$VOL"}'`:      {"call", "A", `{"k":"$VOL"}`},
		"answer .d 'a guest''s # 1'": {"answer", ".d", "a guest's # 1"},
		"x ''":                       {"x", ""},
		"a${X}b'c d'e\tf":            {"axbc de", "f"},
		"! call":                     {"!", "call"},
	} {
		if got, err := split(line, getenv); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", line, got, err, want)
		}
	}
	if got, err := split("a 'b", getenv); err == nil {
		t.Errorf("an open quote: %q", got)
	}
}
