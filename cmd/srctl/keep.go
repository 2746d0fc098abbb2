package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"reflinksr/cmd/internal/retention"
	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
)

// The pairs of a snapshot that srctl snapshot may thin out, beside keyOf.
const (
	keyTag = "reflinksr.tag" // what it is one of
	keyAt  = "reflinksr.at"  // when it was taken
)

// tagging is what is said of a snapshot.
type tagging struct{ name, tag, keep, at string }

// defaultTag is that of snapshots that are to be thinned out.
const defaultTag = "keep"

// keptSnapshot is a snapshot for programs, and those that went for it.
type keptSnapshot struct {
	aDisk
	Destroyed []repository.Key `json:"destroyed"`
}

// takeSnapshot takes a snapshot, and thins out the older ones with its tag.
func (s *session) takeSnapshot(ctx context.Context, v repository.Volume, t tagging) error {
	rules, err := rulesOf(t.keep)
	if err != nil {
		return err
	}
	if rules != nil {
		t.tag = cmp.Or(t.tag, defaultTag)
		// Another one would take this one's snapshot for an older one, and the other way round.
		lock, err := waitForDisk(ctx, "thinning", v.Key)
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	now, err := present(t.at)
	if err != nil {
		return err
	}
	made, err := labelled(ctx, v, t, now)
	if err != nil || rules == nil {
		return s.made(made, err)
	}
	gone, failed := thinOutSnapshots(ctx, v, made.Key, t.tag, rules, now)
	if failed != nil {
		failed = fmt.Errorf("snapshot %s was taken, but older ones could not be thinned out: %w", made.Key, failed)
	}
	if s.json {
		return errors.Join(failed, printJSON(s.out, keptSnapshot{s.disk(made), gone}))
	}
	return errors.Join(failed, s.made(made, nil))
}

// labelled takes a snapshot that is called, and marked, as was said: as the disk is, and not at all, if nothing was.
func labelled(ctx context.Context, v repository.Volume, t tagging, now time.Time) (repository.VolumeStat, error) {
	stop := busy("taking a snapshot")
	defer stop()
	if t.name == "" && t.tag == "" {
		return v.Snapshot(ctx)
	}
	disk, err := v.Stat(ctx)
	if err != nil {
		return disk, err
	}
	l := repository.Label{Name: t.name, Description: disk.Description}
	if t.tag != "" {
		l.Keys = map[string]string{keyTag: t.tag, keyAt: shownTime(now), keyOf: string(v.Key)}
		l.Name = cmp.Or(l.Name, named("", disk.Name, now))
	}
	return v.SnapshotAs(ctx, l)
}

// thinOutSnapshots destroys the snapshots of a disk with a tag that the rules do not keep. One that somebody has stays.
func thinOutSnapshots(ctx context.Context, v repository.Volume, made repository.Key, tag string, rules retention.Rules, now time.Time) (gone []repository.Key, failed error) {
	gone = []repository.Key{}
	volumes, err := v.SR.List(ctx)
	if err != nil {
		return gone, err
	}
	type snapshot struct {
		key repository.Key
		at  time.Time
	}
	var all []snapshot
	for _, o := range volumes {
		if o.ReadWrite || o.Keys[keyTag] != tag || o.Keys[keyOf] != string(v.Key) || o.Keys[keyBackup] != "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, o.Keys[keyAt])
		if err != nil {
			note("snapshot %s does not tell when it was taken, and stays", o.Key)
			continue
		}
		all = append(all, snapshot{o.Key, at})
	}
	slices.SortStableFunc(all, func(a, b snapshot) int { // the one that was made last is the last
		switch made {
		case a.key:
			return 1
		case b.key:
			return -1
		}
		return a.at.Compare(b.at)
	})
	times := make([]time.Time, len(all))
	for i, o := range all {
		times[i] = o.at
	}
	for i, keep := range rules.Keep(times, now) {
		if keep {
			continue
		}
		err := repository.Volume{SR: v.SR, Key: all[i].key}.Destroy(ctx)
		switch {
		case errors.Is(err, fault.ErrInUse), errors.Is(err, fault.ErrElsewhere):
			note("snapshot %s stays for as long as it is in use: %v", all[i].key, err)
		case err != nil:
			failed = errors.Join(failed, err)
		default:
			gone = append(gone, all[i].key)
		}
	}
	return gone, failed
}
