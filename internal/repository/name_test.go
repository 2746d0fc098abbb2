package repository

import (
	"errors"
	"testing"

	"reflinksr/internal/fault"
)

const key = "365c68ee-966a-4644-880d-1122a36ab9a1"

// What is no key is told only of an SR that is there.
func TestParseVolume(t *testing.T) {
	const handle = "file:///srv/sr?uuid=" + key
	if v, err := ParseVolume(handle, key); err != nil || v != (Volume{handle, key}) {
		t.Errorf("%v, %v", v, err)
	}
	for _, bad := range []string{"", "x", "../" + key} {
		if v, err := ParseVolume("no handle", bad); !errors.Is(err, fault.ErrNotAttached) || v != (Volume{}) {
			t.Errorf("%q: %v, %v", bad, v, err)
		}
	}
}

func TestPath(t *testing.T) {
	if path, err := SR("file:///srv/s%20r?uuid=" + key).Path(); err != nil || path != "/srv/s r" {
		t.Errorf("%q, %v", path, err)
	}
	if path, err := SR("/srv/sr").Path(); !errors.Is(err, fault.ErrNotAttached) || path != "" {
		t.Errorf("%q, %v", path, err)
	}
	if sr, err := Datapath(Scheme + ":///srv/sr/" + key + "?sr=" + key).SR(); err != nil || sr != "file:///srv/sr?uuid="+key {
		t.Errorf("%q, %v", sr, err)
	}
	if sr, err := Datapath("file:///srv/sr/" + key).SR(); !errors.Is(err, fault.ErrVolumeNotFound) || sr != "" {
		t.Errorf("%q, %v", sr, err)
	}
}
