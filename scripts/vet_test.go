package scripts

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// None of our scenarios has a mistake.
func TestVetOfOurs(t *testing.T) {
	dir := t.TempDir()
	n := 0
	err := fs.WalkDir(Files, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := fs.ReadFile(Files, path)
		if err != nil {
			return err
		}
		file := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(file, data, 0o600); err != nil {
			return err
		}
		all, err := Vet(file)
		for _, m := range all {
			t.Errorf("%s:%d: %s", path, m.Line, m.Text)
		}
		n++
		return err
	})
	if err != nil || n < 300 {
		t.Errorf("%d scenarios: %v", n, err)
	}
}

// Each mistake is found where it is, and nothing else.
func TestVet(t *testing.T) {
	for line, want := range map[string]string{
		"volum VOL 1MiB": `there is no verb "volum": is it volume?`,
		"volume VOL":     "volume wants more words: volume NAME SIZE [ARG=VALUE]...",
		"volume VOL 1MB": "volume: ",
		"! sum $SR":      "! does not go with sum",
		"sum $VL":        "nothing has set $VL",
		"sum ${DISC}":    "nothing has set $DISC: is it DISK?",
		"call Volume.snapshots '{\"sr\":\"$SR\",\"key\":\"$DISK\"}'":                 "there is no call Volume.snapshots in the interface: is it Volume.snapshot?",
		"call Volume.snapshot '{\"sr\":\"$SR\"}'":                                    `Volume.snapshot wants the argument "key"`,
		"call Volume.snapshot '{\"sr\":\"$SR\",\"key\":\"$DISC\"}'":                  "nothing has set $DISC: is it DISK?",
		"call Volume.snapshot '{\"sr\":\"$SR\",\"kay\":\"$DISK\"}'":                  `Volume.snapshot wants the argument "key" Volume.snapshot has no argument "kay": is it key?`,
		"call Volume.resize '{\"sr\":\"$SR\",\"key\":\"$DISK\",\"new_size\":\"1\"}'": "Volume.resize: ",
		"call SR.ls '{\"sr\":\"$SR\"'":                                               "the request is no JSON object: ",
		"call SR.ls 'sr":                                                             "a quote is not closed",
		"refused Volume_does_not_exists x":                                           "no error of the interface is called Volume_does_not_exists: is it Volume_does_not_exist?",
		"retry 5 loops $DISK 0":                                                      "retry: ",
		"retry 5s loop $DISK 0":                                                      `there is no verb "loop": is it loops?`,
		"needs Volume.comparee":                                                      "there is no call Volume.comparee in the interface: is it Volume.compare?",
		"[fs:xfss] sum $DISK":                                                        `there is no filesystem "xfss": is it xfs?`,
		"[owm] sum $DISK":                                                            "there is no condition [owm]: is it own?",
		"stdout '('":                                                                 "error parsing regexp",
		// None of these is one.
		"! call Volume.snapshot '{\"sr\":\"$SR\"}'":  "",
		"refused 24 $DISK":                           "",
		"# $NOBODY":                                  "",
		"exec sh -c 'echo $NOBODY'":                  "",
		"call SR.stat '{\"sr\":\"$SR\",\"more\":1}'": "",
		"call Volume.set '{\"sr\":\"$SR\",\"key\":\"$DISK\",\"k\":\"a\",\"v\":\"costs \\u0024NOBODY\"}'": "",
	} {
		file := filepath.Join(t.TempDir(), "one.txtar")
		if err := os.WriteFile(file, []byte("sr\nvolume DISK 1MiB\n"+line+"\n-- file --\nvolum\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := Vet(file)
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, m := range all {
			said = append(said, m.Text)
		}
		if got := strings.Join(said, " "); !strings.HasPrefix(got, want) || (want == "") != (got == "") || slices.ContainsFunc(all, func(m Mistake) bool { return m.Line != 3 || m.File != file }) {
			t.Errorf("%s: %+v, want %q", line, all, want)
		}
	}
}

// Vet reads whatever it is given.
func FuzzVet(f *testing.F) {
	f.Add("sr\n[!own] ! call Volume.stat '{\"sr\":\"$SR\"}'\nretry 1s retry 1s ! sum $X # \n-- a --\n")
	f.Add("env A='b''c' ${ $ $1\nfs a b c\nnbd connect x\ndomain plug")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(dir, "one.txtar")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Vet(file); err != nil {
			t.Fatal(err)
		}
	})
}
