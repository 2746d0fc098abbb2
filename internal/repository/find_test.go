package repository

import (
	"slices"
	"testing"
)

// A path comes before a UUID, that before a name, and that before a mount.
func TestMatching(t *testing.T) {
	const one, two, three = "365c68ee-966a-4644-880d-1122a36ab9a1", "11111111-2222-4333-8444-555555555555", "22222222-2222-4333-8444-555555555555"
	known := []Known{{"1", "/srv/one", one, "tank", ""}, {"2", "/srv/two", two, "tank", ""}, {"3", "/mnt/x/three", three, "/srv/one", ""}, {"4", "/srv/four", "x", one, ""}, {"5", "/srv/five", "y", "", ""}}
	inMnt := func(sr string) bool { return sr == "/mnt/x/three" }
	for _, c := range []struct {
		text  string
		paths []string
		below func(string) bool
		want  []SR
	}{
		{"/srv/one", []string{"/srv/one"}, nil, []SR{"1"}}, // another's name is none against a path
		{"one", []string{"/home/one", "/srv/one"}, nil, []SR{"1"}},
		{one, []string{"/home/" + one}, nil, []SR{"1"}}, // nor against a UUID
		{"11111111-2222-4333-8444-555555555555", nil, nil, []SR{"2"}},
		{"tank", []string{"/home/tank"}, nil, []SR{"1", "2"}},
		{"/mnt/x", []string{"/mnt/x"}, inMnt, []SR{"3"}},
		{"/mnt/x", []string{"/mnt/x"}, nil, nil},
		{"", []string{"/home"}, nil, nil},
		{"tan", nil, nil, nil},
	} {
		var got []SR
		for _, k := range matching(known, c.text, c.paths, c.below) {
			got = append(got, k.SR)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, want %v", c.text, got, c.want)
		}
	}
}

// A volume is called by its key, the beginning of that, or its name; whatever may mean several means none.
func TestCalled(t *testing.T) {
	volumes := []VolumeStat{{Key: "abcd1111-x", Name: "web"}, {Key: "abcd2222-x", Name: "web"}, {Key: "12345678-x", Name: "abcd1"}, {Key: "99999999-x", Name: ""}, {Key: "77777777-x", Name: "a"},
		{Key: "aaaa1111-x", Name: "mail"}, {Key: "aaaa2222-x", Name: "mail", ReadWrite: true}, {Key: "aaaa3333-x", Name: "mail"},
		{Key: "bbbb1111-x", Name: "twice", ReadWrite: true}, {Key: "bbbb2222-x", Name: "twice", ReadWrite: true}, {Key: "bbbb3333-x", Name: "twice"},
		{Key: "cccc1111-x", Name: "dddd", ReadWrite: true}, {Key: "dddd1111-x", Name: "other"}}
	for text, want := range map[string][]Key{
		"abcd1":  {"abcd1111-x", "12345678-x"},
		"abcd11": {"abcd1111-x"},
		"ABCD11": {"abcd1111-x"},
		"abcd":   {"abcd1111-x", "abcd2222-x"},
		"abc":    nil,
		"web":    {"abcd1111-x", "abcd2222-x"},
		"1234":   {"12345678-x"},
		"":       nil,
		"a":      {"77777777-x"},
		"we":     nil,
		"mail":   {"aaaa2222-x"}, // its snapshots are called as the disk
		"twice":  {"bbbb1111-x", "bbbb2222-x", "bbbb3333-x"},
		"dddd":   {"cccc1111-x", "dddd1111-x"},
	} {
		var got []Key
		for _, v := range called(volumes, text) {
			got = append(got, v.Key)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
