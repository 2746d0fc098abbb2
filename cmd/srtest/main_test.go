package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reflinksr/scripts"
)

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"x"}, {"run", "-x"}, {"list", "more"}, {"list", "-run", "("}} {
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
	r.run("btrfs", scripts.Config{FS: "btrfs"}.Params(files))
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
