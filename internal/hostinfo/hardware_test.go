package hostinfo

import (
	"testing"
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
