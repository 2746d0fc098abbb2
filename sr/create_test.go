package sr

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"reflinksr/internal/fault"
	"reflinksr/internal/plainsr"
	"reflinksr/internal/source"
)

// An SR that is there is answered again, if it is the one that is asked for; what is refused leaves all as it was.
func TestCreateAgain(t *testing.T) {
	_, path := plain(t)
	before := tree(t, path)
	marker, err := os.ReadFile(filepath.Join(path, "sr.json"))
	if err != nil {
		t.Fatal(err)
	}
	conf := func(more ...string) map[string]string {
		c := map[string]string{"path": path}
		for i := 0; i+1 < len(more); i += 2 {
			c[more[i]] = more[i+1]
		}
		return c
	}
	got, err := Create(plainsr.UUID, conf("SRmaster", "true"), "other name", "")
	if want := map[string]string{"path": path, "sr_uuid": plainsr.UUID}; err != nil || !maps.Equal(got, want) {
		t.Errorf("again: %v, %v, want %v", got, err, want)
	}
	for why, c := range map[string]struct {
		uuid string
		conf map[string]string
		want error
	}{
		"another SR is there":       {otherKey, conf(), fault.ErrSRExists},
		"no UUID":                   {"x", conf(), fault.ErrInvalid},
		"an unknown key":            {otherKey, conf("colour", "blue"), fault.ErrInvalid},
		"a key of another SR":       {plainsr.UUID, conf("sr_uuid", otherKey), fault.ErrInvalid},
		"other sectors":             {plainsr.UUID, conf("sector_size", "4096"), fault.ErrInvalid},
		"other sums":                {plainsr.UUID, conf("datacow", "off"), fault.ErrInvalid},
		"no place":                  {plainsr.UUID, map[string]string{}, fault.ErrInvalid},
		"attached at another place": {plainsr.UUID, map[string]string{"path": t.TempDir()}, fault.ErrSRExists},
	} {
		if _, err := Create(c.uuid, c.conf, "n", "d"); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", why, err)
		}
	}
	if _, err := Create(plainsr.UUID, conf(), "\xff", ""); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("a name that is no text: %v", err)
	}
	if now, err := os.ReadFile(filepath.Join(path, "sr.json")); err != nil || string(now) != string(marker) {
		t.Errorf("the marker became %s, %v", now, err)
	}
	if after := tree(t, path); len(after) != len(before) {
		t.Errorf("left: %q", after)
	}
}

// What attaches an SR says where it is, and nothing of how it was made.
func TestAnswer(t *testing.T) {
	conf := map[string]string{"device": "/dev/sdb", "wipe": "yes", "filesystem": "btrfs", "SRmaster": "true", "datacow": "on"}
	c, err := source.Parse(conf)
	if err != nil {
		t.Fatal(err)
	}
	c.Complete(plainsr.UUID)
	want := map[string]string{"device": "/dev/sdb", "datacow": "on", "sr_uuid": plainsr.UUID, "filesystem_uuid": plainsr.UUID}
	if got := answer(c, conf); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Nothing is attached that is not the SR that is asked for, and nothing is left of the attempt.
func TestAttachRefused(t *testing.T) {
	handle, path := plain(t)
	empty := t.TempDir()
	for why, c := range map[string]struct {
		conf map[string]string
		want error
	}{
		"no place":          {map[string]string{}, fault.ErrInvalid},
		"another SR":        {map[string]string{"path": path, "sr_uuid": otherKey}, fault.ErrSRNotFound},
		"no SR":             {map[string]string{"path": empty}, fault.ErrSRNotFound},
		"no directory":      {map[string]string{"path": filepath.Join(empty, "x")}, fault.ErrSRNotFound},
		"a disk of no SR":   {map[string]string{"device": "/dev/none"}, fault.ErrInvalid},
		"another directory": {map[string]string{"path": "relative"}, fault.ErrInvalid},
	} {
		if _, err := Attach(c.conf); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", why, err)
		}
	}
	if left, err := os.ReadDir(empty); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	// Where blocks cannot be shared it is not attached again, and stays as it was.
	again, err := Attach(map[string]string{"path": path, "sr_uuid": plainsr.UUID})
	if err == nil && again != handle {
		t.Errorf("attached as %s, was %s", again, handle)
	}
	if st, err := StatSR(handle, nil); err != nil || st.Health[0] != Healthy {
		t.Errorf("%+v, %v", st, err)
	}
	if left := tree(t, path); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
