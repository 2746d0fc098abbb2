package loop

import (
	"slices"
	"testing"
)

// Devices are picked by the names of their files: of others nothing is asked.
func TestBound(t *testing.T) {
	const none = 1 << 20 // no device has this number
	all := Bound{{none, "/srv/x/key"}, {none + 1, "/srv/x/key (deleted)"}, {none + 2, "/srv/y/key.host.throwaway"}, {none + 3, "/tmp/other"}, {none + 4, "/srv/x (deleted)/other"}}
	numbers := func(devices []Device) (n []int) {
		for _, d := range devices {
			n = append(n, d.Number-none)
		}
		return n
	}
	if !all.Any("key") || all.Any("srv") || all.Any("none") || Bound(nil).Any("") {
		t.Error("names are looked at, not paths")
	}
	if got := numbers(all.At("/srv/x/key")); !slices.Equal(got, []int{0, 1}) {
		t.Errorf("%v", got)
	}
	if got := all.At("/srv/x"); got != nil {
		t.Errorf("%v", got)
	}
	if got := all.At("/tmp/other")[0]; got.Name != "other" || got.Sequence != 0 || got.Path() != "/dev/loop1048579" {
		t.Errorf("%+v", got)
	}
	var asked []string
	near := all.Where(func(path string) bool { asked = append(asked, path); return path == "/srv/x/key" })
	if len(near) != 2 || len(all) != 5 || !slices.Equal(asked, []string{"/srv/x/key", "/srv/x/key", "/srv/y/key.host.throwaway", "/tmp/other", "/srv/x (deleted)/other"}) {
		t.Errorf("%v, asked %q", near, asked)
	}
	// None of these is there: whatever is asked of them has gone.
	if found, err := all.Of(1, 2, "key"); err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
	if found, err := all.Former("/srv/x/key", 1, 2); err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
	d := Device{Number: none, Dev: 1, Ino: 2}
	_, marked := d.SetReadOnly(true)
	if there, err := d.IsThere(); there || err != nil {
		t.Errorf("there: %v, %v", there, err)
	}
	for what, err := range map[string]error{"keep": d.Keep(), "release": d.Release(), "flush": d.Flush(), "size": d.UpdateSize(), "mark": marked} {
		if err != ErrGone {
			t.Errorf("%s: %v", what, err)
		}
	}
	if gone, err := d.Detach(); !gone || err != nil {
		t.Errorf("detach: %v, %v", gone, err)
	}
	if !d.Same(Device{Number: none, Dev: 1, Ino: 2, Instance: Instance{Name: "x"}}) || d.Same(Device{Number: none, Dev: 1, Ino: 3}) {
		t.Error("one number with one file is one device")
	}
}

// Whatever this host has, listing it asks nothing of anybody, and finds no file twice at one number.
func TestList(t *testing.T) {
	all, err := List()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, b := range all {
		if seen[b.number] || b.path == "" {
			t.Errorf("%+v", b)
		}
		seen[b.number] = true
	}
}
