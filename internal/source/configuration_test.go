package source

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/uuids"
)

// A configuration is refused by the name of what is wrong with it, or is complete.
func FuzzConfiguration(f *testing.F) {
	f.Add("/srv/x", "512", "on", aKey, "colour")
	f.Add("/srv/../x/", "4096", "off", strings.ToUpper(aKey), "SRmaster")
	f.Add("/x/.reflinksr/staging", "0512", "", "", "path\x00")
	f.Fuzz(func(t *testing.T, path, sector, datacow, uuid, more string) {
		conf := map[string]string{more: "x", "path": path, "sr_uuid": uuid}
		if sector != "" {
			conf["sector_size"] = sector
		}
		if datacow != "" {
			conf["datacow"] = datacow
		}
		c, err := Parse(conf)
		if err != nil {
			var e *fault.Error
			if !errors.As(err, &e) || e.Class != fault.ErrInvalid || OptionHelp[e.Item] == "" || len(err.Error()) > 500 {
				t.Errorf("%q: %v", conf, err)
			}
			return
		}
		if !filepath.IsAbs(c.Path) || filepath.Clean(c.Path) != c.Path || c.UUID != "" && !uuids.IsCanonical(c.UUID) ||
			c.Options.SectorSize != 512 && c.Options.SectorSize != 4096 {
			t.Errorf("%q became %+v", conf, c)
		}
		if p, u, err := layout.ParseHandle(layout.Handle(c.Path, aKey)); err != nil || p != c.Path || u != aKey {
			t.Errorf("%q is a path that has no handle: %q, %v", c.Path, p, err)
		}
		known := more == "path" || more == "sr_uuid" || OptionHelp[more] != "" || FromToolstack[more]
		if slices.Contains(c.Unknown, more) == known {
			t.Errorf("%q: unknown are %q", conf, c.Unknown)
		}
	})
}

func TestConfiguration(t *testing.T) {
	for _, tt := range []struct {
		conf map[string]string
		item string // "" if it is good
	}{
		{map[string]string{"path": "/srv/x"}, ""},
		{map[string]string{"path": "/srv/x", "sector_size": "4096", "datacow": "on", "SRmaster": "true"}, ""},
		{map[string]string{}, "path"},
		{map[string]string{"path": "srv"}, "path"},
		{map[string]string{"path": "/a\x00b"}, "path"},
		{map[string]string{"path": "/x/.reflinksr/staging"}, "path"},
		{map[string]string{"path": "/x", "sector_size": "1024"}, "sector_size"},
		{map[string]string{"path": "/x", "sector_size": "512.0"}, "sector_size"},
		{map[string]string{"path": "/x", "datacow": "yes"}, "datacow"},
		{map[string]string{"path": "/x", "sr_uuid": "x"}, "sr_uuid"},
	} {
		_, err := Parse(tt.conf)
		var e *fault.Error
		switch {
		case tt.item == "" && err != nil:
			t.Errorf("%v: %v", tt.conf, err)
		case tt.item != "" && (!errors.As(err, &e) || e.Class != fault.ErrInvalid || e.Item != tt.item):
			t.Errorf("%v: %v, want the name of %s", tt.conf, err, tt.item)
		}
	}
	c, err := Parse(map[string]string{"path": "/a/../b/", "colour": "blue"})
	if err != nil || c.Path != "/b" || !slices.Equal(c.Unknown, []string{"colour"}) || c.Options.SectorSize != 512 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestCheckText(t *testing.T) {
	for _, good := range []string{"", "a\nb", "日本", strings.Repeat("x", TextLimit), "\u202eright to left", "💾"} {
		if err := CheckText("name", good); err != nil {
			t.Errorf("%.20q: %v", good, err)
		}
	}
	for _, bad := range []string{"\xff", strings.Repeat("x", TextLimit+1)} {
		if err := CheckText("name", bad); !errors.Is(err, fault.ErrInvalid) || !strings.Contains(err.Error(), "the name ") {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}
