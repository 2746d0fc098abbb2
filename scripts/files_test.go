package scripts

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// A scenario is meant by its name alone, so no two have the same; and each is in a folder
// that README.md tells of, and embedded.
func TestNamesAreUnique(t *testing.T) {
	folder := map[string]string{}
	for _, f := range folders {
		entries, err := Files.ReadDir(f.name)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if first := folder[e.Name()]; first != "" {
				t.Errorf("%s is in %s and in %s", e.Name(), first, f.name)
			}
			folder[e.Name()] = f.name
		}
	}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err == nil && path.Ext(file) == ".txtar" && folder[d.Name()] != filepath.Dir(file) {
			t.Errorf("%s is in no folder of scenarios", file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSelect(t *testing.T) {
	for pattern, want := range map[string][]string{
		"^main_job$":       {"volume/main_job.txtar"},
		"^volume/main_job": {"volume/main_job.txtar"},
		"^volume$":         nil, // a name
		"^sr/sr_d":         {"sr/sr_destroy.txtar", "sr/sr_detach.txtar"},
		"^sr_d":            {"sr/sr_destroy.txtar", "sr/sr_detach.txtar"},
		"^own_plugin_ls$":  nil, // not for others' plugins
	} {
		dir := t.TempDir()
		var got []string
		files, err := Config{}.Select(dir, regexp.MustCompile(pattern))
		for _, file := range files {
			if _, missing := os.Stat(file); missing != nil {
				t.Error(missing)
			}
			rel, _ := filepath.Rel(dir, file)
			got = append(got, rel)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", pattern, got, err, want)
		}
	}
	own, err := Config{Own: true}.Select(t.TempDir(), regexp.MustCompile("^wire/own_plugin_ls$"))
	if err != nil || len(own) != 1 {
		t.Errorf("%q, %v", own, err)
	}
}
