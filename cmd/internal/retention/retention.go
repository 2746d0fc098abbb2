// Package retention decides which of many moments are kept, as a person has said: the newest of each of the last 24 hours that have
// one, of each of the last seven days, and so on.
//
// Hours, days and weeks (from Monday on) are those of UTC, so that no hour is there twice a year. Only periods that have a moment
// count: after a month without any the last ones are still there, and a clock that leaps ahead thins out no more than one that does not.
// What is later than the present, since the clock was put back, is kept and counts for nothing until its time has come; and so
// is what was made last, whatever its time.
package retention

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Rules say how many are kept of each kind of period. Without any all are kept.
type Rules []rule

type rule struct {
	name  string
	count int
}

// most is the highest number that a rule can have.
const most = 100_000

// periods are the kinds of periods, with what tells two of a kind apart. Of "last" each moment is one.
var periods = []struct {
	name string
	of   func(at time.Time, index int) string
}{
	{"last", func(_ time.Time, index int) string { return strconv.Itoa(index) }},
	{"hourly", func(at time.Time, _ int) string { return at.Format("2006-01-02T15") }},
	{"daily", func(at time.Time, _ int) string { return at.Format("2006-01-02") }},
	{"weekly", func(at time.Time, _ int) string {
		year, week := at.ISOWeek()
		return fmt.Sprint(year, " ", week)
	}},
	{"monthly", func(at time.Time, _ int) string { return at.Format("2006-01") }},
	{"yearly", func(at time.Time, _ int) string { return at.Format("2006") }},
}

// Names are the kinds of periods.
func Names() (names []string) {
	for _, p := range periods {
		names = append(names, p.name)
	}
	return names
}

// Parse reads rules as people write them: hourly=24,daily=7.
func Parse(text string) (rules Rules, err error) {
	for _, part := range strings.Split(text, ",") {
		name, number, _ := strings.Cut(part, "=")
		count, err := strconv.Atoi(number)
		switch {
		case !slices.Contains(Names(), name):
			return nil, fmt.Errorf("%q is no rule: one is %s=NUMBER", part, strings.Join(Names(), "=NUMBER, "))
		case err != nil || count < 1 || count > most:
			return nil, fmt.Errorf("%q: %s needs a number from 1 to %d", part, name, most)
		case slices.ContainsFunc(rules, func(r rule) bool { return r.name == name }):
			return nil, fmt.Errorf("%s is there twice", name)
		}
		rules = append(rules, rule{name, count})
	}
	return rules, nil
}

// Keep says which moments are kept, of those in the order in which they were made.
func (r Rules) Keep(made []time.Time, now time.Time) []bool {
	keep := make([]bool, len(made))
	var newestFirst []int
	for i, at := range made {
		if keep[i] = len(r) == 0 || i == len(made)-1 || at.After(now); !at.After(now) {
			newestFirst = append(newestFirst, i)
		}
	}
	slices.SortStableFunc(newestFirst, func(a, b int) int {
		if order := made[b].Compare(made[a]); order != 0 {
			return order
		}
		return b - a
	})
	for _, rule := range r {
		of := periods[slices.Index(Names(), rule.name)].of
		last, count := "", 0
		for _, i := range newestFirst {
			period := of(made[i].UTC(), i)
			if period == last {
				continue
			}
			if count++; count > rule.count {
				break
			}
			keep[i], last = true, period
		}
	}
	return keep
}
