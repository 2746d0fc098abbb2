package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/catalogue"
	"reflinksr/cmd/internal/retention"
	"reflinksr/internal/fault"
	"reflinksr/internal/overwrite"
	"reflinksr/internal/repository"
)

// The pairs by which a snapshot is known to be one that srctl has made, and may destroy.
const (
	keyBackup    = "reflinksr.backup"     // the ID of the backup that it is for
	keyDirectory = "reflinksr.backup.dir" // where that was
	keyOf        = "reflinksr.of"         // the disk that it is of
)

// backingUp is what is said of a backup.
type backingUp struct {
	keep      string
	fullEvery int
	full      bool
	at        string
}

func (s *session) backup() *cobra.Command {
	var b backingUp
	c := s.takes(s.answersJSON(command("backup SR VOLUME... DIR", "back up disks, in use or not, to a directory",
		`backup takes a snapshot of a disk, which a guest may have, and writes to DIR what has
changed since the last backup there; the first time all of it. It reads back what it has
written, and only then destroys the snapshot that the backup before began with. The new one
stays: the next backup begins with it. In the SR it occupies what the disk overwrites.

DIR is in no SR, and best on another machine's disks. It can have the backups of many
disks, of several SRs. srctl backups lists what is in it, and srctl restore gives it back.
Of several disks each is backed up after the other; that one fails keeps none from its turn.

What is interrupted, in whatever way, is taken up by the next backup: it finishes what was
half written, and goes on. Where it cannot, it begins anew with all of the disk, and says
why. It destroys no snapshot that it has not made for this directory.

With --keep it takes away what is not to be kept any more, after the new one was
verified: of each of so many last hours, days, weeks (from Monday), months or years, in UTC,
that have a backup the last one is kept, and of the last so many all. A backup that
another needs which is kept stays as well. So every --full-every backups all of the disk is
written: then a chain ends, and goes when nothing of it is kept. Without --keep nothing
goes. The newest is always kept, and so is what is later than now, for the clock was put
back then.`,
		`  srctl backup tank web /backup
  srctl backup tank web /backup --keep hourly=24,daily=7,weekly=4,monthly=12
  srctl backup tank web /backup --keep last=30 --full-every 10
  srctl backup tank web db 0a1b2c3d /backup`, 3, 1000,
		func(ctx context.Context, args []string) error { return s.backupDisks(ctx, args, b) })), anSR, aVolume, aFile)
	c.Flags().StringVar(&b.keep, "keep", "", "what is kept: `RULES` like last=3,hourly=24,daily=7,weekly=4,monthly=12,yearly=5")
	c.Flags().IntVar(&b.fullEvery, "full-every", 30, "all of the disk after so `MANY` backups, of which each needs the one before")
	c.Flags().BoolVar(&b.full, "full", false, "all of the disk this time, whatever is there")
	takesTime(c, &b.at)
	return c
}

// takesTime gives a command the present as a flag, for tests: who thins out by the clock is tried with another.
func takesTime(c *cobra.Command, at *string) {
	c.Flags().StringVar(at, "at", "", "take `TIME` for the present")
	if err := c.Flags().MarkHidden("at"); err != nil {
		panic(err) // there is no such flag
	}
}

// present is now, to the second, or what is taken for it.
func present(said string) (time.Time, error) {
	if said == "" {
		return time.Now().UTC().Truncate(time.Second), nil
	}
	at, err := time.Parse(time.RFC3339, said)
	if err != nil {
		return at, misused("--at: %v", err)
	}
	return at.UTC().Truncate(time.Second), nil
}

// rulesOf are what --keep says.
func rulesOf(said string) (retention.Rules, error) {
	if said == "" {
		return nil, nil
	}
	rules, err := retention.Parse(said)
	if err != nil {
		return nil, misused("--keep: %v", err)
	}
	return rules, nil
}

func shownTime(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// backupRun is one backup of a disk.
type backupRun struct {
	s      *session
	v      repository.Volume
	disk   repository.VolumeStat
	dir    string
	st     *store
	now    time.Time
	begun  time.Time
	answer backedUp
}

// backedUp is a backup for programs.
type backedUp struct {
	Disk     repository.Key  `json:"disk"`
	Key      repository.Key  `json:"key"`
	Since    *repository.Key `json:"since"` // null: it is all of the disk
	Why      string          `json:"why"`   // it is, "" if it is not
	At       time.Time       `json:"at"`
	Path     string          `json:"path"`
	Size     int64           `json:"size"`  // of the disk, in bytes
	Bytes    int64           `json:"bytes"` // of the stream
	Seconds  float64         `json:"seconds"`
	Finished []string        `json:"finished"` // streams that had been interrupted
	Removed  []string        `json:"removed"`  // streams that are not to be kept
}

// backupDisks backs up the volumes of SR VOLUME... DIR.
func (s *session) backupDisks(ctx context.Context, args []string, said backingUp) error {
	rules, err := rulesOf(said.keep)
	if err != nil {
		return err
	}
	if said.fullEvery < 1 || said.fullEvery > 1000 {
		return misused("--full-every: %d is no number from 1 to 1000", said.fullEvery)
	}
	now, err := present(said.at)
	if err != nil {
		return err
	}
	var disks []repository.Volume
	for _, arg := range args[1 : len(args)-1] {
		v, err := s.volumeAt(ctx, args[0], arg)
		if err != nil {
			return err
		}
		disks = append(disks, v)
	}
	dir, err := s.backupDirectory(args[len(args)-1])
	if err != nil {
		return err
	}
	lock, err := lockFile(filepath.Join(dir, ".srctl-backup.lock"))
	if errors.Is(err, errAnother) {
		err = fmt.Errorf("another backup to %s %w; one command can back up several disks", dir, err)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	answers, failed := []backedUp{}, error(nil)
	for _, v := range disks {
		b := &backupRun{s: s, v: v, dir: dir, now: now, begun: time.Now(), answer: backedUp{Finished: []string{}, Removed: []string{}}}
		if err := b.run(ctx, said, rules); err != nil {
			failed = errors.Join(failed, err)
		}
		if b.answer.Key != "" {
			answers = append(answers, b.answer)
		}
	}
	if s.json {
		return errors.Join(failed, printJSON(s.out, answers))
	}
	return failed
}

// run backs up one disk.
func (b *backupRun) run(ctx context.Context, said backingUp, rules retention.Rules) (err error) {
	lock, err := lockDisk("backup", b.v.Key)
	if err != nil {
		return err
	}
	defer lock.Close()
	if b.disk, err = b.v.Stat(ctx); err != nil {
		return err
	}
	if err := b.open(ctx, said.full); err != nil {
		return err
	}
	if err := b.takeUp(ctx, said.full); err != nil {
		return err
	}
	p, err := b.take(ctx, said)
	if err != nil {
		return err
	}
	if err := b.leave(ctx, p.Key); err != nil {
		err = fmt.Errorf("%s is whole, but the snapshot that the backup before began with could not be destroyed: %w", b.st.path(p), err)
		return errors.Join(err, b.tell(p))
	}
	if err := b.thinOut(rules); err != nil {
		err = fmt.Errorf("%s is whole, but what is not to be kept any more could not be removed: %w", b.st.path(p), err)
		return errors.Join(err, b.tell(p))
	}
	return b.tell(p)
}

// backupDirectory refuses what is no directory for backups.
func (s *session) backupDirectory(path string) (string, error) {
	dir, err := filepath.Abs(path)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if errors.Is(err, os.ErrNotExist) {
		return "", fault.Hint(fmt.Errorf("there is no directory %s", path), "mount what it is on, or make it: mkdir %s", path)
	}
	if err != nil {
		return "", err
	}
	var of, in unix.Stat_t
	if err := unix.Stat(dir, &of); err != nil {
		return "", &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if of.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", fmt.Errorf("%s is not a directory", path)
	}
	if err := overwrite.MayWriteFile(filepath.Join(dir, catalogue.Name)); err != nil {
		return "", err
	}
	if unix.Stat(s.path, &in) == nil && in.Dev == of.Dev {
		note("%s is on the same filesystem as the SR %s: what happens to the one happens to the other, and then this is no backup", dir, s.path)
	}
	return dir, nil
}

// tell tells what was done.
func (b *backupRun) tell(p catalogue.Point) error {
	a := &b.answer
	a.Disk, a.Key, a.At, a.Path, a.Size, a.Bytes, a.Seconds = b.v.Key, p.Key, p.At, b.st.path(p), p.Size, p.Bytes, time.Since(b.begun).Seconds()
	what := "all of the disk, for " + a.Why
	if p.Since != "" {
		a.Since, a.Why = &p.Since, ""
		what = "since " + shownTime(b.st.find(p.Since).At)
	}
	if b.s.json {
		return nil // all are told together
	}
	for _, path := range a.Removed {
		fmt.Fprintf(b.s.out, "%s: removed, as it is not to be kept any more\n", oneLine(path))
	}
	_, err := fmt.Fprintf(b.s.out, "%s: %s, %s; written, read back and verified in %v\n", oneLine(a.Path), b.s.bytes(a.Bytes), what, time.Since(b.begun).Round(time.Millisecond))
	return err
}
