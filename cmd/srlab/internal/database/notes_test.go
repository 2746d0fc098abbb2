package database

import (
	"strings"
	"testing"
	"time"
)

func TestPeriods(t *testing.T) {
	all, err := parseNotes(strings.NewReader(`wrote 1 900000 900000
begin alone
wrote 2 20000 10000
wrote 3 10000 30000
end alone
wrote 4 800000 800000
begin first
begin within
wrote 5 5000 6000
end within
wrote 6 700000 1000
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []period{
		{"alone", 1, 3, 2, 20 * time.Millisecond, 30 * time.Millisecond, true},
		{"first", 4, 0, 2, 700 * time.Millisecond, 6 * time.Millisecond, false},
		{"within", 4, 5, 1, 5 * time.Millisecond, 6 * time.Millisecond, true},
	}
	if all.newest != 6 || len(all.periods) != len(want) {
		t.Fatalf("%+v", all)
	}
	for i, p := range all.periods {
		if *p != want[i] {
			t.Errorf("%+v, want %+v", *p, want[i])
		}
	}
}

func TestNotesThatAreWrong(t *testing.T) {
	for text, want := range map[string]string{
		"wrote 2 1 1\n":                  "transaction",
		"wrote 1 1\n":                    "transaction",
		"wrote 1 1 1\nwrote 3 1 1\n":     "after 1",
		"end alone\n":                    "no period alone",
		"wrote 1 1 1\nfailed disk I/O\n": "disk I/O",
		"what\n":                         "what",
	} {
		if _, err := parseNotes(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestJudge(t *testing.T) {
	p := period{before: 10, last: 14, over: true}
	whole := found{integrity: []string{"ok"}, entries: 12, newest: 12, accounted: 12, acknowledged: 12}
	for name, c := range map[string]struct {
		change func(f *found)
		want   string // of the error; "" if it is whole
	}{
		"whole":                  {func(f *found) {}, ""},
		"between two writes":     {func(f *found) { f.acknowledged = 11 }, ""},
		"damaged":                {func(f *found) { f.integrity = []string{"row 3 missing from index"} }, "row 3"},
		"no answer":              {func(f *found) { f.integrity = nil }, "damaged"},
		"a transaction is gone":  {func(f *found) { f.entries = 11 }, "11 of them"},
		"half a transaction":     {func(f *found) { f.accounted = 11 }, "11 by its accounts"},
		"too old":                {func(f *found) { *f = found{f.integrity, 9, 9, 9, 9} }, "10 was acknowledged"},
		"too new":                {func(f *found) { *f = found{f.integrity, 15, 15, 15, 15} }, "14 was the newest"},
		"the number is newer":    {func(f *found) { f.acknowledged = 13 }, "no moment"},
		"the number is older":    {func(f *found) { f.acknowledged = 10 }, "no moment"},
		"of the oldest there is": {func(f *found) { *f = found{f.integrity, 10, 10, 10, 10} }, ""},
	} {
		f := whole
		c.change(&f)
		err := f.judge(p)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
