package main

import (
	"errors"
	"strings"
	"testing"
)

func aTable() *table {
	s := new(session)
	t := &table{columns: []column{{title: "KEY", cut: keysEnd}, {title: "MODE"}, {title: "SIZE", numbers: true}, {title: "NAME", cut: textsEnd}}}
	for _, v := range []struct {
		key, mode string
		size      int64
		name      string
	}{
		{"365c68ee-966a-4644-880d-1122a36ab9a1", "rw", 1 << 40, "a disk with a long name, which is cut where there is no room for it"},
		{"365c68ee-966b-4644-880d-1122a36ab9a1", "ro", 2048, "日本語のディスクの名前はとても長い"},
		{"11111111-2222-4333-8444-555555555555", "rw", 512, "x\x1b[31m/y"},
	} {
		t.rows = append(t.rows, row{cells: []cell{text(v.key), text(v.mode), s.size(v.size), text(v.name)}, value: v.name})
	}
	return t
}

func printed(t *table, width int) string {
	var b strings.Builder
	if err := t.print(&b, width); err != nil {
		return err.Error()
	}
	return b.String()
}

// On a terminal every line fits; keys keep a beginning that tells them apart.
func TestTableFits(t *testing.T) {
	for _, width := range []int{200, 80, 60, 40, 20, 3} {
		for _, line := range strings.Split(printed(aTable(), width), "\n") {
			if columnsOf(line) > width {
				t.Errorf("%d columns of %d: %q", columnsOf(line), width, line)
			}
			if strings.ContainsRune(line, '\x1b') {
				t.Errorf("an escape sequence: %q", line)
			}
		}
	}
	want := `KEY           MODE   SIZE  NAME
365c68ee-966a  rw     1 TiB  a disk with a long name,…
365c68ee-966b  ro     2 KiB  日本語のディスクの名前は…
11111111-2222  rw     512 B  "x\x1b[31m/y"
`
	if got := printed(aTable(), 53); strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := printed(aTable(), 0); !strings.Contains(got, "no room for it\n") || !strings.Contains(got, "365c68ee-966a-4644-880d-1122a36ab9a1  rw") {
		t.Errorf("cut in a pipe: %s", got)
	}
}

func TestTableChooses(t *testing.T) {
	for _, c := range []struct {
		sort    string
		filters []string
		want    string
	}{
		{"", nil, "rw ro rw"},
		{"size", nil, "512 2048 1099511627776"},
		{"-size", nil, "1099511627776 2048 512"},
		{"mode", nil, "ro rw rw"},
		{"", []string{"mode=r?", "name=*"}, "rw ro rw"},
		{"", []string{"mode=ro"}, "ro"},
		{"", []string{"name=x*y"}, "512"},
		{"", []string{"mode=rw", "name=a disk*"}, "1099511627776"},
		{"", []string{"mode=x"}, ""},
	} {
		a := aTable()
		if err := a.choose(c.sort, c.filters); err != nil {
			t.Error(err)
		}
		var got []string
		for i, want := range strings.Fields(c.want) {
			if i >= len(a.rows) {
				break
			}
			cell := a.rows[i].cells[2]
			if strings.HasPrefix(want, "r") {
				cell = a.rows[i].cells[1]
			}
			got = append(got, cell.raw)
		}
		if len(a.rows) != len(strings.Fields(c.want)) || strings.Join(got, " ") != c.want {
			t.Errorf("%q, %q: %q, want %s", c.sort, c.filters, got, c.want)
		}
		if all := values[string](a); all == nil || len(all) != len(a.rows) {
			t.Errorf("%q", all)
		}
	}
	var u *usageError
	for _, bad := range []struct {
		sort   string
		filter string
	}{{"x", "mode=*"}, {"", "x=y"}, {"", "name"}, {"", "name=["}, {"--size", "mode=*"}} {
		if err := aTable().choose(bad.sort, []string{bad.filter}); !errors.As(err, &u) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestWrapped(t *testing.T) {
	for width, want := range map[int]string{0: "one two three four five six", 22: "one two three four|five six", 80: "one two three four five six"} {
		if got := strings.Join(wrapped("one two three four five six", width), "|"); got != want {
			t.Errorf("%d: %s, want %s", width, got, want)
		}
	}
}
