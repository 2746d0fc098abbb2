package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/catalogue"
	"reflinksr/cmd/internal/delta"
	"reflinksr/cmd/internal/retention"
	"reflinksr/internal/fault"
	"reflinksr/internal/overwrite"
	"reflinksr/internal/repository"
	"reflinksr/internal/rundir"
	"reflinksr/internal/uuids"
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
	lock, err := lockFor(filepath.Join(dir, ".srctl-backup.lock"), "to "+dir)
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
	lock, err := b.lockDisk()
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

// lockDisk keeps others on this host from backing up the disk.
func (b *backupRun) lockDisk() (*os.File, error) {
	run, err := rundir.Open("backup")
	if err != nil {
		return nil, err
	}
	run.Close()
	return lockFor(filepath.Join(rundir.Path, "backup", string(b.v.Key)+".lock"), "of volume "+string(b.v.Key))
}

// lockFor keeps others from a backup until it is closed.
func lockFor(path, what string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		err = fault.Hint(fmt.Errorf("another backup %s is at work", what), "try again when it has ended; one command can back up several disks")
	} else if err != nil {
		err = fmt.Errorf("locking %s: %w", path, err)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ours are the snapshots in the SR that were made for backups of the disk.
func (b *backupRun) ours(ctx context.Context) (all []repository.VolumeStat, err error) {
	volumes, err := b.v.SR.List(ctx)
	for _, v := range volumes {
		if v.Keys[keyBackup] != "" && v.Keys[keyOf] == string(b.v.Key) && !v.ReadWrite {
			all = append(all, v)
		}
	}
	return all, err
}

// mine are those for this directory.
func (b *backupRun) mine(ctx context.Context) (all []repository.VolumeStat, err error) {
	ours, err := b.ours(ctx)
	return slices.DeleteFunc(ours, func(v repository.VolumeStat) bool { return v.Keys[keyBackup] != string(b.st.ID) }), err
}

// open reads what the directory has of the disk, or begins with nothing. By the ID of that snapshots are known: it is durable
// before there is one.
func (b *backupRun) open(ctx context.Context, full bool) (err error) {
	if b.st, err = openStore(b.dir, b.v.Key); errors.Is(err, os.ErrNotExist) {
		path := filepath.Join(b.dir, string(b.v.Key))
		if err = os.Mkdir(path, 0o700); err == nil {
			err = syncDirectory(b.dir)
		}
		if err == nil {
			b.st, err = openStore(b.dir, b.v.Key)
		}
	}
	if err != nil {
		return err
	}
	before := b.st.Catalogue
	ours, err := b.ours(ctx)
	if err != nil {
		return err
	}
	if b.st.renewed && len(b.st.Points) > 0 {
		b.st.ID = b.knownBy(ours)
	}
	if b.st.ID == "" {
		if err := b.mayBegin(ours, full); err != nil && len(b.st.Points) == 0 {
			return err
		}
		id, err := uuids.Random()
		if err != nil {
			return err
		}
		b.st.ID = repository.Key(id.String())
	}
	sr := srUUID(b.v.SR)
	if b.st.SR != "" && sr != "" && b.st.SR != sr {
		return fault.Hint(fmt.Errorf("%s has backups of volume %s of the SR %s, and this is another disk of the same key, of the SR %s", b.dir, b.v.Key, b.st.SR, sr),
			"give the disks of this SR a directory of their own")
	}
	b.st.Name, b.st.SR = b.disk.Name, cmp.Or(sr, b.st.SR)
	if size, err := b.v.SectorSize(ctx); err == nil { // else the snapshot says what is wrong
		b.st.SectorSize = size
	}
	// Where there is no room left, only what has changed needs any.
	if b.st.renewed || before.ID != b.st.ID || before.Name != b.st.Name || before.SR != b.st.SR || before.SectorSize != b.st.SectorSize {
		if err := b.st.save(); err != nil {
			return err
		}
	}
	return b.st.sweep()
}

// knownBy is the ID of a backup whose catalogue is lost: a snapshot that one of its streams is of has it, or else one that was made
// for a backup in this place.
func (b *backupRun) knownBy(ours []repository.VolumeStat) (id repository.Key) {
	for _, v := range ours {
		said, err := repository.ParseKey(v.Keys[keyBackup])
		if err != nil {
			continue
		}
		if b.st.find(v.Key) != nil {
			return said
		}
		if v.Keys[keyDirectory] == b.dir {
			id = said
		}
	}
	return id
}

// mayBegin refuses to begin where a backup was once, and nothing is: a disk that is not mounted leaves an empty directory.
func (b *backupRun) mayBegin(ours []repository.VolumeStat, full bool) error {
	for _, v := range ours {
		if v.Keys[keyDirectory] == b.dir && !full {
			os.Remove(b.st.dir) // if nothing is in it
			return fault.Hint(fmt.Errorf("%s has no backup of volume %s, though snapshot %s was made for one there", b.dir, b.v.Key, v.Key),
				"mount what it was on; or begin another there with --full, and destroy that snapshot if its backup is no more")
		}
	}
	return nil
}

// srUUID is what the catalogue calls an SR.
func srUUID(sr repository.SR) string {
	known, _ := repository.KnownSRs(context.Background()) // it is told to people only
	for _, k := range known {
		if k.SR == sr {
			return k.UUID
		}
	}
	return ""
}

// takeUp finishes what an interrupted backup has begun to write, and takes away all else that it left: snapshots of which
// nothing was written, and pieces of which there is no snapshot.
func (b *backupRun) takeUp(ctx context.Context, full bool) error {
	mine, err := b.mine(ctx)
	if err != nil {
		return err
	}
	partials, err := b.st.partials()
	if err != nil {
		return err
	}
	for _, v := range mine {
		if b.st.find(v.Key) != nil {
			continue
		}
		i := slices.IndexFunc(partials, func(path string) bool { return strings.Contains(path, "-"+string(v.Key)[:8]+".") })
		if i >= 0 && !full {
			if err := b.finish(ctx, v, partials[i]); err == nil {
				partials = slices.Delete(partials, i, i+1)
				continue
			} else if !errors.Is(err, errBeginAnew) {
				return b.pending(v.Key, err)
			}
		}
		note("snapshot %s, of which an interrupted backup has written nothing that is of use, is destroyed", v.Key)
		if err := (repository.Volume{SR: b.v.SR, Key: v.Key}).Destroy(ctx); err != nil {
			return err
		}
	}
	for _, path := range partials {
		note("%s, which an interrupted backup left, is removed: its snapshot is gone, or nothing can be made of it", path)
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// errBeginAnew says that what was interrupted cannot be gone on with.
var errBeginAnew = errors.New("begin anew")

// finish writes the rest of an interrupted backup.
func (b *backupRun) finish(ctx context.Context, v repository.VolumeStat, partial string) error {
	name := strings.TrimSuffix(filepath.Base(partial), ".partial")
	at, err := catalogue.TimeOf(name)
	if err != nil {
		return errBeginAnew
	}
	f, err := os.Open(partial)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := delta.NewReader(f)
	if err != nil || r.Header().To != v.Key || catalogue.FileName(at, r.Header().From, v.Key) != name {
		return errBeginAnew
	}
	since := r.Header().From
	if at := b.st.Find(since); since != "" && (at < 0 || b.st.lostAt(at) != nil) {
		return errBeginAnew
	}
	d, err := b.compare(ctx, since, v.Key)
	if err != nil {
		return errBeginAnew
	}
	defer d.Data.Close()
	p, err := b.write(d, at)
	if err != nil {
		return err
	}
	note("%s, which was interrupted, is finished: %s", b.st.path(p), b.s.bytes(p.Bytes))
	b.answer.Finished = append(b.answer.Finished, b.st.path(p))
	return b.leave(ctx, p.Key)
}

// compare is the difference between two snapshots, or all of the second.
func (b *backupRun) compare(ctx context.Context, since, key repository.Key) (*repository.Delta, error) {
	stop := busy("comparing")
	defer stop()
	return repository.Volume{SR: b.v.SR, Key: key}.DeltaSince(ctx, since)
}

// base is the snapshot of the newest point that a delta can begin with; and why there is none.
func (b *backupRun) base(ctx context.Context, said backingUp) (repository.Key, string, error) {
	if said.full {
		return "", "--full says so", nil
	}
	if len(b.st.Points) == 0 {
		return "", "nothing of this disk is there yet", nil
	}
	mine, err := b.mine(ctx)
	if err != nil {
		return "", "", err
	}
	why := "the snapshot of the last backup is gone"
	for i, p := range slices.Backward(b.st.Points) {
		if !slices.ContainsFunc(mine, func(v repository.VolumeStat) bool { return v.Key == p.Key }) {
			continue
		}
		chain, _ := b.st.Chain(i)
		switch err := b.st.lostAt(i); {
		case err != nil:
			why = err.Error()
		case len(chain) >= said.fullEvery:
			return "", fmt.Sprintf("there are %d since the last one that is", len(chain)), nil
		default:
			return p.Key, "", nil
		}
	}
	return "", why, nil
}

// take takes a snapshot and writes what has changed until then.
func (b *backupRun) take(ctx context.Context, said backingUp) (p catalogue.Point, err error) {
	since, why, err := b.base(ctx, said)
	if err != nil {
		return p, err
	}
	if said.at == "" { // the disks before may have taken long
		b.now = time.Now().UTC().Truncate(time.Second)
	}
	stop := busy("taking a snapshot")
	made, err := b.v.SnapshotAs(ctx, repository.Label{
		Name:        named("backup of ", b.disk.Name, b.now),
		Description: fmt.Sprintf("made by srctl backup for %s, where the next backup begins with it; destroyed by that", b.dir),
		Keys:        map[string]string{keyBackup: string(b.st.ID), keyDirectory: b.dir, keyOf: string(b.v.Key)},
	})
	stop()
	if err != nil {
		return p, err
	}
	d, err := b.compare(ctx, since, made.Key)
	if err != nil && since != "" {
		why = err.Error()
		d, err = b.compare(ctx, "", made.Key)
	}
	if err != nil {
		return p, b.pending(made.Key, err)
	}
	defer d.Data.Close()
	b.answer.Why = why
	if p, err = b.write(d, b.now); err != nil {
		return p, b.pending(made.Key, err)
	}
	return p, nil
}

// named is what a snapshot is called that srctl makes of a disk: names have a limit.
func named(before, disk string, at time.Time) string {
	const most = 200
	if runes := []rune(disk); len(runes) > most {
		disk = string(runes[:most]) + "…"
	}
	return strings.TrimSpace(before + strings.ToValidUTF8(disk, "?") + " " + shownTime(at))
}

// pending tells what becomes of a snapshot whose stream is not whole.
func (b *backupRun) pending(key repository.Key, err error) error {
	return fault.Hint(fmt.Errorf("%w: snapshot %s is kept, and the next backup takes it up", err, key), "mend that, and back up again; or, to give up, destroy that snapshot")
}

// write writes a point's stream, reads it back, gives it its name, and notes it.
func (b *backupRun) write(d *repository.Delta, at time.Time) (p catalogue.Point, err error) {
	p = catalogue.Point{Key: d.To, Since: d.From, At: at, Size: d.ToSize, File: catalogue.FileName(at, d.From, d.To)}
	f, err := exportToPartial(d, b.st.path(p))
	if f != nil {
		defer f.Close()
	}
	if err != nil {
		return p, err
	}
	if p.Bytes, err = sizeOf(f); err != nil {
		return p, err
	}
	if err := readBack(f, headerOf(d), p.Bytes); err != nil {
		return p, fmt.Errorf("%s was written, and reads as something else: %w", f.Name(), err)
	}
	if err := rename(f.Name(), b.st.path(p)); err != nil {
		return p, err
	}
	b.st.Points = append(b.st.Points, p)
	return p, b.st.save()
}

// readBack verifies what was written, as the storage has it: what is in the page cache is not asked.
func readBack(f *os.File, h delta.Header, size int64) error {
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	got, err := readWhole(f, size)
	if err == nil && got != h {
		err = errors.New("it is of other volumes")
	}
	return err
}

// leave destroys the snapshots that were made for this directory, but for the one that the next backup begins with. One that
// somebody has is left to the next backup.
func (b *backupRun) leave(ctx context.Context, last repository.Key) error {
	mine, err := b.mine(ctx)
	if err != nil {
		return err
	}
	for _, v := range mine {
		if v.Key == last || b.st.find(v.Key) == nil {
			continue
		}
		err := repository.Volume{SR: b.v.SR, Key: v.Key}.Destroy(ctx)
		if errors.Is(err, fault.ErrInUse) || errors.Is(err, fault.ErrElsewhere) {
			note("snapshot %s stays until the next backup: %v", v.Key, err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

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
