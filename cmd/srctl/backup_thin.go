package main

import (
	"fmt"
	"time"

	"reflinksr/cmd/internal/catalogue"
	"reflinksr/cmd/internal/retention"
	"reflinksr/internal/repository"
)

// thinOut removes the points that are not kept, and that none which is kept needs. Of those that are lost somebody may still find
// what is missing: they stay, and do not count.
func (b *backupRun) thinOut(rules retention.Rules) error {
	var good []catalogue.Point
	var times []time.Time
	for i, p := range b.st.Points {
		if err := b.st.lostAt(i); err != nil {
			note("the backup of %s cannot be restored: %v", shownTime(p.At), err)
			continue
		}
		good, times = append(good, p), append(times, p.At)
	}
	if rules == nil {
		return nil
	}
	needed := map[repository.Key]bool{}
	for i, keep := range rules.Keep(times, b.now) {
		if !keep {
			continue
		}
		if good[i].At.After(b.now) {
			note("the backup of %s is later than now: was the clock put back? It is kept, and counts for nothing until then", shownTime(good[i].At))
		}
		chain, _ := b.st.Chain(b.st.Find(good[i].Key))
		for _, p := range chain {
			needed[p.Key] = true
		}
	}
	var gone []catalogue.Point
	for _, p := range good {
		if !needed[p.Key] {
			gone = append(gone, p)
			b.answer.Removed = append(b.answer.Removed, b.st.path(p))
		}
	}
	if len(gone) == 0 {
		return nil
	}
	// What goes may be all that can be restored: so the newest that stays is read before.
	files, err := b.st.openChain(good[len(good)-1])
	closeAll(files)
	if err != nil {
		b.answer.Removed = []string{}
		return fmt.Errorf("nothing is removed, for what would stay cannot be restored: %w", err)
	}
	return b.st.remove(gone)
}
