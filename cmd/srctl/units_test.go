package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"reflinksr/scripts/tests"
)

// The units in docs/backup.md are such as systemd takes, and start what srctl knows.
func TestUnits(t *testing.T) {
	document, err := os.ReadFile("../../docs/backup.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "srctl")
	if err := os.WriteFile(program, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	var units []string
	for _, m := range regexp.MustCompile("(?s)`/etc/systemd/system/(srctl-[a-z]+@?)\\.(service|timer)`[^\n]*:\n\n((?:(?:    [^\n]*)?\n)+)").FindAllStringSubmatch(string(document), -1) {
		var text strings.Builder
		for line := range strings.Lines(m[3]) {
			line = strings.TrimPrefix(line, "    ")
			text.WriteString(line)
			if command, is := strings.CutPrefix(strings.TrimSpace(line), "ExecStart=/usr/sbin/srctl "); is {
				s := new(session)
				c, args, err := s.root().Find(strings.Fields(command))
				if err == nil {
					if err = c.ParseFlags(args); err == nil {
						_, err = rulesOf(c.Flag("keep").Value.String())
					}
				}
				if err == nil {
					err = c.ValidateArgs(c.Flags().Args())
				}
				if err != nil {
					t.Errorf("%s: %v", command, err)
				}
			}
		}
		path := filepath.Join(dir, m[1]+"."+m[2])
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text.String(), "/usr/sbin/srctl", program)), 0o600); err != nil {
			t.Fatal(err)
		}
		units = append(units, strings.Replace(path, "@.", "@0a1b2c3d-0000-4000-8000-000000000001.", 1))
	}
	if len(units) != 4 {
		t.Fatalf("the document has the units %q", units)
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		tests.Skip(t, err)
	}
	if out, err := exec.Command("systemd-analyze", append([]string{"verify", "--man=no"}, units...)...).CombinedOutput(); err != nil || strings.Contains(string(out), dir) {
		t.Errorf("%v: %s", err, out)
	}
}
