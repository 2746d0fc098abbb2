package retention

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02"} {
		if moment, err := time.Parse(layout, text); err == nil {
			return moment
		}
	}
	t.Fatalf("%s is no time", text)
	return time.Time{}
}

func TestKeep(t *testing.T) {
	for _, c := range []struct {
		what, rules, now string
		made, want       string // the ones that are kept
	}{
		{"nothing there", "last=1", "2026-12-01", "", ""},
		{"the last ones", "last=2", "2026-12-01", "2026-11-01 2026-11-02 2026-11-03", "2026-11-02 2026-11-03"},
		{"the newest of an hour", "hourly=2", "2026-12-01", "2026-11-01T01:00 2026-11-01T01:59 2026-11-01T02:00 2026-11-01T02:30", "2026-11-01T01:59 2026-11-01T02:30"},
		{"days without any do not count", "daily=2", "2026-12-01", "2026-01-01 2026-05-05 2026-09-09", "2026-05-05 2026-09-09"},
		{"weeks begin on Monday, also at New Year", "weekly=2", "2027-02-01", "2026-12-27 2026-12-28 2027-01-03 2027-01-04", "2027-01-03 2027-01-04"},
		{"months", "monthly=3", "2026-12-01", "2026-09-30 2026-10-01 2026-10-31 2026-11-15", "2026-09-30 2026-10-31 2026-11-15"},
		{"years", "yearly=2", "2026-12-01", "2024-01-01 2025-06-01 2025-12-31 2026-01-01", "2025-12-31 2026-01-01"},
		{"rules add up", "last=1,yearly=2", "2026-12-01", "2025-06-01 2025-12-31 2026-01-01 2026-01-02", "2025-12-31 2026-01-02"},
		{"days are those of UTC", "daily=1", "2026-12-01", "2026-11-02T01:00:00+00:00 2026-11-01T23:30:00-02:00", "2026-11-01T23:30:00-02:00"},
		{"two days of UTC", "daily=2", "2026-12-01", "2026-11-01T23:30:00+02:00 2026-11-02T01:00:00+00:00", "2026-11-01T23:30:00+02:00 2026-11-02T01:00:00+00:00"},
		{"of one moment the one made last", "daily=1", "2026-12-01", "2026-11-01 2026-11-01", "2026-11-01"},
		{"the clock was put back: what is later is kept and counts for nothing", "last=2", "2026-11-10", "2036-01-01 2036-01-02 2026-11-08 2026-11-09 2026-11-10", "2036-01-01 2036-01-02 2026-11-09 2026-11-10"},
		{"the clock was put back: what was made last is kept", "last=1", "2026-11-10", "2026-11-09 2026-11-10 2026-11-01", "2026-11-10 2026-11-01"},
		{"the clock leapt ahead", "last=2,daily=3", "2036-01-01", "2026-11-07 2026-11-08 2026-11-09 2036-01-01", "2026-11-08 2026-11-09 2036-01-01"},
	} {
		rules, err := Parse(c.rules)
		if err != nil {
			t.Fatal(err)
		}
		var made []time.Time
		texts := strings.Fields(c.made)
		for _, text := range texts {
			made = append(made, at(t, text))
		}
		var kept []string
		for i, keep := range rules.Keep(made, at(t, c.now)) {
			if keep {
				kept = append(kept, texts[i])
			}
		}
		if got := strings.Join(kept, " "); got != c.want {
			t.Errorf("%s: %s keeps %s, want %s", c.what, c.rules, got, c.want)
		}
	}
	if keep := (Rules)(nil).Keep([]time.Time{at(t, "2026-01-01"), at(t, "2026-01-02")}, at(t, "2026-12-01")); !keep[0] || !keep[1] {
		t.Error("without rules something goes")
	}
}

// Who thins out every hour has at the end what who thins out once has: nothing goes that is needed later.
func TestKeepEveryTime(t *testing.T) {
	rules, err := Parse("hourly=24,daily=7,weekly=4,monthly=12")
	if err != nil {
		t.Fatal(err)
	}
	var all, left []time.Time
	now := at(t, "2025-01-01")
	for range 500 * 24 {
		now = now.Add(time.Hour)
		all, left = append(all, now), append(left, now)
		var kept []time.Time
		for i, keep := range rules.Keep(left, now) {
			if keep {
				kept = append(kept, left[i])
			}
		}
		left = kept
	}
	var once []time.Time
	for i, keep := range rules.Keep(all, now) {
		if keep {
			once = append(once, all[i])
		}
	}
	if fmt.Sprint(once) != fmt.Sprint(left) || len(left) < 40 {
		t.Errorf("thinned out every hour: %v\nthinned out once: %v", left, once)
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"": `"" is no rule`, "7": `"7" is no rule`, "hourly": "needs a number", "hourly=": "needs a number", "hourly=0": "needs a number", "hourly=-1": "needs a number",
		"hourly=100001": "needs a number", "hourly=x": "needs a number", "minutely=3": "is no rule", "hourly=1,": `"" is no rule`, "hourly=1,hourly=2": "there twice", "Hourly=1": "is no rule",
		"last=99999999999999999999": "needs a number",
	} {
		if rules, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v", text, rules, err)
		}
	}
	if rules, err := Parse("last=1,hourly=24,daily=7,weekly=4,monthly=12,yearly=100000"); err != nil || len(rules) != 6 {
		t.Errorf("%v, %v", rules, err)
	}
}
