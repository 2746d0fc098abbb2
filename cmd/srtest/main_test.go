package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"reflinksr/scripts"
)

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"x"}, {"run", "-x"}, {"list", "more"}, {"new"}, {"new", "a", "b"}, {"list", "-run", "("}} {
		var out, errs bytes.Buffer
		if status := run(args, &out, &errs); status != 2 || errs.Len() == 0 || out.Len() > 0 {
			t.Errorf("%q: exit %d, %q, %q", args, status, out.String(), errs.String())
		}
	}
}

func TestList(t *testing.T) {
	var all, own, errs bytes.Buffer
	if run([]string{"list"}, &all, &errs) != 0 || run([]string{"list", "-own"}, &own, &errs) != 0 {
		t.Fatal(errs.String())
	}
	if !strings.Contains(all.String(), "main_job\n") || strings.Contains(all.String(), "own_") || !strings.Contains(own.String(), "own_") {
		t.Errorf("%s\n%s", all.String(), own.String())
	}
}

func TestHelp(t *testing.T) {
	var out, errs bytes.Buffer
	if run([]string{"help", "plug"}, &out, &errs) != 0 || !strings.Contains(out.String(), "plug VOLUME") {
		t.Errorf("%s%s", out.String(), errs.String())
	}
	if run([]string{"help", "plugg"}, &out, &errs) != 1 || !strings.Contains(errs.String(), `no verb "plugg"`) {
		t.Errorf("%s", errs.String())
	}
}

// A tester's first scenario is written once, found by file and by directory, and
// begins with a comment.
func TestNew(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "mine")
	var out, errs bytes.Buffer
	if run([]string{"new", name}, &out, &errs) != 0 {
		t.Fatal(errs.String())
	}
	if run([]string{"new", name}, &out, &errs) != 1 || !strings.Contains(errs.String(), "exists") {
		t.Errorf("a second one: %s", errs.String())
	}
	all := regexp.MustCompile("")
	for _, path := range []string{dir, name + ".txtar"} {
		files, err := find(scripts.Config{}, dir, all, []string{path})
		if err != nil || len(files) != 1 || files[0] != name+".txtar" {
			t.Errorf("%s: %v, %v", path, files, err)
		}
	}
	if files, err := find(scripts.Config{}, dir, regexp.MustCompile("yours"), []string{dir}); err != nil || len(files) != 0 {
		t.Errorf("%v, %v", files, err)
	}
	if _, err := find(scripts.Config{}, dir, all, []string{name + ".none"}); err == nil {
		t.Error("a scenario that is not there was found")
	}
}

// The runner tells passed, failed and skipped apart, and exits accordingly.
func TestTAP(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"good": "exec true\n", "bad": "# It is false.\nexec false\n", "left_out": "skip 'for a reason'\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".txtar"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(dir + "/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	r := newTAP(&out, false)
	r.run("btrfs", scripts.Config{FS: "btrfs"}, files)
	if err := r.finish(); err != errFailed {
		t.Errorf("the run ends with %v", err)
	}
	for _, want := range []string{
		"TAP version 14\n", "not ok 1 - btrfs/bad\n", "# # It is false.", "ok 2 - btrfs/good\n",
		"ok 3 - btrfs/left_out # SKIP for a reason\n", "1..3\n# 1 passed, 1 failed, 1 skipped\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}
