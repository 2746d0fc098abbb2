package main

import (
	"slices"
	"strings"
	"testing"

	"reflinksr/internal/repository"
)

// What is suggested to a shell is one line each, and nothing that a shell would take for something else.
func TestSuggestions(t *testing.T) {
	srs := suggestSRs([]repository.Known{{SR: "1", Path: "/srv/one", UUID: "u1", Name: "tank"}, {SR: "2", Path: "/srv/two", UUID: "u2", Name: "$(reboot)"}, {SR: "3", Path: "/srv/3", UUID: "u3"},
		{SR: "4", Path: "/srv/4", UUID: "u4", Name: "same"}, {SR: "5", Path: "/srv/a\nb", UUID: "u5", Name: "same"}, {SR: "6", Path: "/srv/6", UUID: "u6", Name: "-rf"}})
	if want := []string{"/srv/one\ttank", "tank\t/srv/one", "/srv/two\t$(reboot)", "/srv/3\tu3", "/srv/4\tsame", "/srv/6\t-rf"}; !slices.Equal(srs, want) {
		t.Errorf("%q, want %q", srs, want)
	}
	volumes := suggestVolumes([]repository.VolumeStat{{Key: "k1", Name: "a\tb\x1b[31m"}, {Key: "k2", Name: "web", ReadWrite: true, VirtualSize: 1 << 20}, {Key: "k3", Name: "日本"}, {Key: "k4", Name: "a b"}})
	if want := []string{"k1\t\"a\\tb\\x1b[31m\" ro, 0 B", "k2\tweb rw, 1 MiB", "web\trw, 1 MiB", "k3\t日本 ro, 0 B", "日本\tro, 0 B", "k4\ta b ro, 0 B"}; !slices.Equal(volumes, want) {
		t.Errorf("%q, want %q", volumes, want)
	}
	for _, s := range append(srs, volumes...) {
		if strings.Count(s, "\t") != 1 || strings.ContainsAny(s, "\n\x1b") {
			t.Errorf("%q", s)
		}
	}
}
