package uuids

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestIsCanonical(t *testing.T) {
	const u = "365c68ee-966a-4644-880d-1122a36ab9a1"
	for s, want := range map[string]bool{
		u: true, "00000000-0000-0000-0000-000000000000": true, "": false, u[1:]: false, u + "0": false, "365C68EE-966A-4644-880D-1122A36AB9A1": false,
		"{" + u + "}": false, "urn:uuid:" + u: false, "365c68ee966a4644880d1122a36ab9a1": false, u[:35] + "g": false, u[:35] + "/": false, "../" + u[3:]: false,
	} {
		if IsCanonical(s) != want {
			t.Errorf("%q: not %v", s, want)
		}
	}
}

// What is read, written and made here is what the module for it reads and writes, which costs each call of the plugin
// as much again as its start.
func FuzzParse(f *testing.F) {
	const u = "365c68ee-966a-4644-880d-1122a36ab9a1"
	for _, s := range []string{u, strings.ToUpper(u), "urn:uuid:" + u, "URN:UUID:" + u, "{" + u + "}", strings.ReplaceAll(u, "-", ""), "", u[1:], u + "0", "{" + u, u + "}", "urn:uuid:{" + u + "}", u[:35] + "g"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := Parse(s)
		want, err := uuid.Parse(s)
		switch {
		case ok && err != nil && len(s) != 34 && len(s) != 41: // braces, and a URN, around one without hyphens
			t.Errorf("%q is taken for %s", s, got)
		case !ok && err == nil && !(len(s) == 38 && (s[0] != '{' || s[37] != '}')): // which the module takes for braces
			t.Errorf("%q is not taken for %s", s, want)
		case ok && err == nil && got.String() != want.String():
			t.Errorf("%q: %s, want %s", s, got, want)
		}
		if IsCanonical(s) != (err == nil && want.String() == s) {
			t.Errorf("%q is canonical: %v", s, IsCanonical(s))
		}
	})
}

// A new one is random, of version 4, and written as it is read.
func TestRandom(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		u, err := Random()
		if err != nil {
			t.Fatal(err)
		}
		read, err := uuid.Parse(u.String())
		if err != nil || read.Version() != 4 || read.Variant() != uuid.RFC4122 || read != uuid.UUID(u) || !IsCanonical(u.String()) || seen[u.String()] {
			t.Fatalf("%s, %v", u, err)
		}
		seen[u.String()] = true
	}
}
