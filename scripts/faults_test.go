package scripts

import (
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// docs/faults.md has a row for each of its faults, in their order, and each names
// scenarios that exist.
func TestFaults(t *testing.T) {
	const faults = 55
	text, err := os.ReadFile("../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("`([a-z0-9_]+)`")
	row := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 7 {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(cells[1]))
		if err != nil {
			continue // the heading
		}
		if row++; n != row {
			t.Errorf("row %d is numbered %d", row, n)
		}
		for i, what := range []string{"fault", "answer", "way to make it"} {
			if strings.TrimSpace(cells[i+2]) == "" {
				t.Errorf("row %d has no %s", n, what)
			}
		}
		scenarios := name.FindAllStringSubmatch(cells[5], -1)
		if len(scenarios) == 0 {
			t.Errorf("row %d has no scenario", n)
		}
		for _, s := range scenarios {
			if found, err := fs.Glob(Files, "*/"+s[1]+".txtar"); err != nil || len(found) != 1 {
				t.Errorf("row %d: there is no scenario %s (%q, %v)", n, s[1], found, err)
			}
		}
	}
	if row != faults {
		t.Errorf("%d faults are in the table, want %d", row, faults)
	}
}
