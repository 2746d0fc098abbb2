package layout

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reflinksr/internal/fault"
	"reflinksr/internal/uuids"
)

const aKey = "365c68ee-966a-4644-880d-1122a36ab9a1"

func TestHandle(t *testing.T) {
	for _, path := range []string{"/srv/tank", "/", "/a b", "/q#1", "/q?2", "/100%", "/[x]", "/ü/é", "/new\nline", "/a+b&c=d;e"} {
		h := Handle(path, aKey)
		p, u, err := ParseHandle(h)
		if err != nil || p != path || u != aKey {
			t.Errorf("%q became %q, which is %q, %q, %v", path, h, p, u, err)
		}
	}
	for _, bad := range []string{
		"", "/srv/tank", "file:///srv/tank", "file://host/srv?uuid=" + aKey, "http:///srv?uuid=" + aKey,
		"file:///srv?uuid=x", "file:///srv/../etc?uuid=" + aKey, "file:srv?uuid=" + aKey,
		"file:///srv?uuid=" + aKey + "&x=1", "file:///srv?uuid=" + aKey + "#x", "file:///srv/.reflinksr/x?uuid=" + aKey,
	} {
		if p, u, err := ParseHandle(bad); !errors.Is(err, fault.ErrNotAttached) {
			t.Errorf("%q is taken for a handle: %q, %q, %v", bad, p, u, err)
		}
	}
}

// What is accepted is canonical: there is one handle of an SR, and never one of a
// directory inside another SR.
func FuzzParseHandle(f *testing.F) {
	f.Add(Handle("/srv/tank", aKey))
	f.Add(Handle("/a b/ü%#?[]\n", aKey))
	f.Add("file:///a%00b?uuid=" + aKey)
	f.Add("file:///a/../b?uuid=" + aKey)
	f.Fuzz(func(t *testing.T, s string) {
		path, uuid, err := ParseHandle(s)
		if err != nil {
			if !errors.Is(err, fault.ErrNotAttached) || len(err.Error()) > 500 {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if !filepath.IsAbs(path) || filepath.Clean(path) != path || !uuids.IsCanonical(uuid) || Handle(path, uuid) != s || len(path) > 4000 ||
			strings.ContainsRune(path, 0) || slices.Contains(strings.Split(path, "/"), ControlDir) {
			t.Errorf("%q became %q, %q", s, path, uuid)
		}
	})
}
