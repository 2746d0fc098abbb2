package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
	"reflinksr/internal/rundir"
	"reflinksr/internal/units"
)

// keyMigrate is the pair by which a snapshot is known to be one that migrate has made, and may destroy; and by which a disk tells of its
// migration (unfinished).
const keyMigrate = "reflinksr.migrate"

// mover is what srctl migrate is called among those that have volumes active.
const mover = "srctl-migrate"

// little is how much a round may have for the next to be the last, in bytes; and most how many rounds there are before: a guest may write
// as fast as they are.
const (
	little     = 64 << 20
	mostRounds = 10
)

// migrating is what is said of a migration.
type migrating struct {
	ssh, limit         string
	wait, remove, anew bool
}

func (s *session) migrate() *cobra.Command {
	var m migrating
	c := s.takes(s.answersJSON(command("migrate SR VOLUME DESTINATION", "copy a disk that is in use to another SR; prints its new key",
		`migrate makes a writable disk in the SR DESTINATION, of this host or as HOST:SR of another
that has srctl and can be reached by ssh as root without a question. It holds what the
disk holds, and has its name and description.

A guest may have the disk. Then all of it is copied, by a snapshot; then, round after round,
what the guest has written meanwhile, until that is little; and both sides are compared by
checksum. If the guest has the disk still, migrate ends there (exit status 3): shut the guest
down and give the same command again, which copies the little that is left. With --wait it
goes on with rounds, and finishes when the disk is free. Nobody can have it while the last
round is copied.

The disk itself stays as it is, unless --remove says that it may go once the other is whole.
What is interrupted goes on with the same command, after the last whole round; nobody
can have the disk if that was in the last one. Until all is there the new disk is
described as incomplete. This is for hosts without a toolstack,
which does not learn of it: it finds the new disk at its next scan, as another one.`,
		`  srctl migrate tank web archive
  srctl migrate tank web other.example.org:tank --limit 50M
  srctl migrate tank web root@other:/srv/tank --wait --remove --yes
  srctl migrate --ssh 'ssh -p 2222' tank web other:tank`, 3, 3,
		func(ctx context.Context, args []string) error { return s.migrateDisk(ctx, args, m) })), anSR, aVolume, anSR)
	c.Flags().StringVar(&m.ssh, "ssh", "ssh -oBatchMode=yes -oServerAliveInterval=15", "the `PROGRAM` that reaches another host, with its arguments")
	c.Flags().StringVar(&m.limit, "limit", "", "copy at most so many `BYTES` a second (50M)")
	c.Flags().BoolVar(&m.wait, "wait", false, "until the disk is free, with another round every minute")
	c.Flags().BoolVar(&m.anew, "anew", false, "begin another one, whatever was begun")
	c.Flags().BoolVar(&m.remove, "remove", false, "destroy the disk here when the other is whole: for a moment before nobody holds it, so that no guest may be started then")
	return c
}

// move is one migration.
type move struct {
	s       *session
	v       repository.Volume
	disk    repository.VolumeStat
	to      peer
	limit   int64 // bytes a second; 0: none
	there   unfinished
	rounds  int
	bytes   int64 // that were copied, of streams
	checked bool
}

// migrated is a migration for programs.
type migrated struct {
	Key         repository.Key `json:"key"` // of the new disk
	Destination string         `json:"destination"`
	Of          repository.Key `json:"of"`
	Rounds      int            `json:"rounds"`
	Bytes       int64          `json:"bytes"`
	Seconds     float64        `json:"seconds"`
	Removed     bool           `json:"removed"`
}

// errHasIt is why a migration does not come to its end.
var errHasIt = errors.New("the disk is in use")

func (s *session) migrateDisk(ctx context.Context, args []string, said migrating) error {
	begun := time.Now()
	m := &move{s: s}
	var err error
	if m.to, err = parsePeer(args[2], said.ssh); err != nil {
		return err
	}
	if said.limit != "" {
		if m.limit, err = units.Parse(said.limit); err != nil || m.limit < 1 {
			return misused("--limit: %q is no number of bytes a second", said.limit)
		}
	}
	if m.v, err = s.volumeAt(ctx, args[0], args[1]); err != nil {
		return err
	}
	if m.disk, err = m.v.Stat(ctx); err != nil {
		return err
	}
	if err := m.may(); err != nil {
		return err
	}
	if said.remove {
		if err := s.sure("destroy %s once it is at %s", s.described(m.disk), m.to.where()); err != nil {
			return err
		}
	}
	lock, err := lockDisk("migrate", m.v.Key)
	if err != nil {
		return err
	}
	defer lock.Close()
	ctx, stop := untilEnded(ctx)
	defer stop()
	if err := m.takeUp(ctx, said.anew); err != nil {
		return err
	}
	if err := m.toTheEnd(ctx, said.wait); err != nil {
		return err
	}
	if said.remove {
		if err := m.v.Destroy(ctx); err != nil {
			return fmt.Errorf("the disk is whole as volume %s at %s, and could not be removed here: %w", m.there.Key, m.to.where(), err)
		}
	}
	if s.json {
		return printJSON(s.out, migrated{m.there.Key, m.to.where(), m.v.Key, m.rounds, m.bytes, time.Since(begun).Seconds(), said.remove})
	}
	fmt.Fprintf(messages, "%s in %d rounds, %v\n", s.bytes(m.bytes), m.rounds, time.Since(begun).Round(time.Millisecond))
	_, err = fmt.Fprintln(s.out, m.there.Key)
	return err
}

// may refuses what cannot be migrated.
func (m *move) may() error {
	switch {
	case !m.disk.ReadWrite:
		return fault.Hint(fmt.Errorf("volume %s is a snapshot", m.v.Key), "srctl copy copies one")
	case m.disk.Keys["clone-on-boot"] != "":
		return fmt.Errorf("volume %s is cloned at each boot of its guest, to %s, which has what the guest writes", m.v.Key, fault.Shorten(m.disk.Keys["clone-on-boot"]))
	case m.disk.Sharable:
		return fmt.Errorf("volume %s is sharable: of what several guests may write to nobody can say when it is free", m.v.Key)
	}
	return nil
}

// errAnother says that another process has the lock.
var errAnother = errors.New("another process is at it")

// lockDisk keeps other processes that do something of this kind with a disk off it, until what it gives is closed.
func lockDisk(kind string, disk repository.Key) (*os.File, error) {
	dir, err := rundir.Open(kind)
	if err != nil {
		return nil, err
	}
	dir.Close()
	f, err := os.OpenFile(filepath.Join(rundir.Path, kind, string(disk)+".lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("volume %s: %w (%s): let it end, and try again", disk, errAnother, kind)
	}
	return f, nil
}

// toTheEnd copies round after round, and the last one while nobody has the disk.
func (m *move) toTheEnd(ctx context.Context, wait bool) (err error) {
	for {
		held, err := m.hold(ctx)
		if err != nil {
			return err
		}
		if held {
			return m.last(ctx)
		}
		if err := m.converge(ctx); err != nil {
			return err
		}
		if held, err = m.hold(ctx); err != nil {
			return err
		}
		if held {
			return m.last(ctx)
		}
		if !wait {
			return fault.Hint(fmt.Errorf("volume %s: %w: what it held a moment ago is at %s", m.v.Key, errHasIt, m.to.where()),
				"shut down who has it (srctl show), and give the same command again: little is left to copy")
		}
		if held, err = m.await(ctx, time.Minute); err != nil {
			return err
		}
		if held {
			return m.last(ctx)
		}
	}
}

// await waits until nobody has the disk.
func (m *move) await(ctx context.Context, most time.Duration) (held bool, err error) {
	for end := time.Now().Add(most); !held && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-time.After(time.Second):
		}
		if held, err = m.hold(ctx); err != nil {
			return false, err
		}
	}
	return held, nil
}

// hold takes the disk, so that nobody writes to it, if nobody has it.
func (m *move) hold(ctx context.Context) (bool, error) {
	_, err := m.v.AttachHere(ctx, mover, true)
	if errors.Is(err, fault.ErrInUse) || errors.Is(err, fault.ErrElsewhere) {
		return false, nil
	}
	return err == nil, err
}

// release gives the disk back, however this ends.
func (m *move) release(err error) error {
	return errors.Join(err, m.v.DetachHere(context.Background(), mover))
}

// converge copies round after round, until one has little, or none gets less.
func (m *move) converge(ctx context.Context) error {
	before := int64(-1)
	for range mostRounds {
		n, err := m.round(ctx)
		if err != nil {
			return err
		}
		if n <= little || before >= 0 && n > before/2 {
			break
		}
		before = n
	}
	return m.compare(ctx)
}

// last copies what is left, of a disk that nobody has, and gives it back.
func (m *move) last(ctx context.Context) error {
	_, err := m.round(ctx)
	if err == nil && !m.checked {
		err = m.compare(ctx)
	}
	if err == nil {
		err = m.finish(ctx)
	}
	return m.release(err)
}

// round takes a snapshot and copies what has changed since the one before; the number of bytes of that.
func (m *move) round(ctx context.Context) (int64, error) {
	stop := busy("taking a snapshot")
	made, err := m.v.SnapshotAs(ctx, repository.Label{
		Name:        named("migration of ", m.disk.Name, time.Now()),
		Description: fmt.Sprintf("made by srctl migrate to %s, and destroyed by that", m.to.where()),
		Keys:        map[string]string{keyMigrate: m.to.where(), keyOf: string(m.v.Key)},
	})
	stop()
	if err != nil {
		return 0, err
	}
	d, err := m.since(ctx, made.Key)
	if err != nil {
		return 0, errors.Join(err, m.drop(made.Key))
	}
	defer d.Data.Close()
	n, err := m.send(ctx, d)
	if err != nil {
		return 0, fmt.Errorf("%w: the same command goes on", err)
	}
	m.rounds, m.bytes = m.rounds+1, m.bytes+n
	note("round %d: %s", m.rounds, m.s.bytes(n))
	return n, nil
}

// since is what a snapshot has that the other side has not.
func (m *move) since(ctx context.Context, key repository.Key) (*repository.Delta, error) {
	stop := busy("comparing")
	defer stop()
	return repository.Volume{SR: m.v.SR, Key: key}.DeltaSince(ctx, m.there.Holds)
}

// send has the other side hold a snapshot. It says there before that it is at it: a repetition of the same is the only thing that
// mends what was interrupted.
func (m *move) send(ctx context.Context, d *repository.Delta) (n int64, err error) {
	if err := m.note(ctx, unfinished{Key: m.there.Key, Holds: m.there.Holds, Writing: d.To}); err != nil {
		return 0, err
	}
	var device struct{ Device string }
	if err := m.to.ask(ctx, &device, nil, "attach", "--json", "--", m.to.sr, string(m.there.Key)); err != nil {
		return 0, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	sent := make(chan error, 1)
	go func() {
		out := &limited{ctx: ctx, to: write, limit: m.limit, begun: time.Now()}
		e := pour(out, d)
		n = out.n
		sent <- errors.Join(e, write.Close())
	}()
	err = m.to.ask(ctx, nil, read, "delta", "apply", "--json", "--overwrite", "--", "-", device.Device)
	read.Close() // so that nobody writes on to nobody
	if e := <-sent; err == nil {
		err = e
	}
	// Also when this was interrupted: nobody else would.
	err = errors.Join(err, m.to.ask(context.WithoutCancel(ctx), nil, nil, "detach", "--", m.to.sr, string(m.there.Key)))
	if err != nil {
		return 0, err
	}
	before := m.there.Holds
	if err := m.note(ctx, unfinished{Key: m.there.Key, Holds: d.To}); err != nil {
		return 0, err
	}
	m.checked = false
	if before != "" {
		return n, m.drop(before)
	}
	return n, nil
}

// pour writes a delta to a pipe.
func pour(to io.Writer, d *repository.Delta) error {
	b := bufio.NewWriterSize(to, delta.MaxData)
	w, err := delta.NewWriter(b, headerOf(d))
	if err == nil {
		err = writeDelta(w, d)
	}
	if err == nil {
		err = b.Flush()
	}
	return err
}

// limited is a pipe that takes so much a second.
type limited struct {
	ctx   context.Context
	to    io.Writer
	limit int64 // bytes a second; 0: none
	begun time.Time
	n     int64
}

// Write waits until so much may have been written.
func (l *limited) Write(p []byte) (n int, err error) {
	if l.limit > 0 {
		due := l.begun.Add(time.Duration(float64(l.n) / float64(l.limit) * float64(time.Second)))
		select {
		case <-l.ctx.Done():
			return 0, context.Cause(l.ctx)
		case <-time.After(time.Until(due)):
		}
	}
	n, err = l.to.Write(p)
	l.n += int64(n)
	return n, err
}

// drop destroys a snapshot of ours. One that somebody has stays, and is destroyed by the next migration.
func (m *move) drop(key repository.Key) error {
	err := repository.Volume{SR: m.v.SR, Key: key}.Destroy(context.Background())
	if errors.Is(err, fault.ErrInUse) || errors.Is(err, fault.ErrElsewhere) {
		note("snapshot %s stays until the disk is migrated again: %v", key, err)
		return nil
	}
	return err
}

// compare compares what the last round copied by checksum.
func (m *move) compare(ctx context.Context) error {
	here, err := checksumOf(ctx, repository.Volume{SR: m.v.SR, Key: m.there.Holds})
	if err != nil {
		return err
	}
	var there struct{ Checksum string }
	stop := busy("comparing checksums")
	err = m.to.ask(ctx, &there, nil, "checksum", "--json", "--", m.to.sr, string(m.there.Key))
	stop()
	if err != nil {
		return err
	}
	if there.Checksum != here {
		return fault.Hint(fmt.Errorf("volume %s at %s does not hold what snapshot %s holds (checksum %.16s, here %.16s): somebody has written to it, or what carried it has lied", m.there.Key, m.to.where(), m.there.Holds, there.Checksum, here),
			"destroy volume %s there, and migrate again", m.there.Key)
	}
	m.checked = true
	return nil
}

// finish tells the new disk that it is whole, and destroys what the migration needed here.
func (m *move) finish(ctx context.Context) error {
	if err := m.to.ask(ctx, nil, nil, "describe", "--", m.to.sr, string(m.there.Key), m.disk.Description); err != nil {
		return err
	}
	if err := m.v.Unset(context.WithoutCancel(ctx), keyMigrate); err != nil {
		return err
	}
	return m.drop(m.there.Holds)
}

// takeUp finds what an interrupted migration left on both sides, and begins one where there is none.
func (m *move) takeUp(ctx context.Context, anew bool) error {
	if device, err := m.v.DeviceHere(ctx, mover); err != nil {
		return err
	} else if device != "" { // the lock says that it is nobody's
		if err := m.v.DetachHere(ctx, mover); err != nil {
			return err
		}
	}
	mine, err := m.mine(ctx)
	if err != nil {
		return err
	}
	begun, err := parseUnfinished(m.disk.Keys[keyMigrate])
	if err != nil {
		return fmt.Errorf("what volume %s says of its migration is damaged (%w): srctl migrate --anew begins another", m.v.Key, err)
	}
	if begun.Key == "" || anew {
		err = m.begin(ctx)
	} else {
		err = m.find(ctx, begun)
	}
	if err != nil {
		return err
	}
	has := func(key repository.Key) bool { return key != "" && mine[key] }
	if m.there.Writing != "" && has(m.there.Writing) && (m.there.Holds == "" || has(m.there.Holds)) {
		d, err := m.since(ctx, m.there.Writing)
		if err != nil {
			return err
		}
		defer d.Data.Close()
		n, err := m.send(ctx, d)
		if err != nil {
			return fmt.Errorf("%w: the same command goes on", err)
		}
		m.rounds, m.bytes = 1, n
		note("the round that was interrupted is copied: %s", m.s.bytes(n))
	} else if m.there.Writing != "" || !has(m.there.Holds) {
		m.there.Holds = "" // all of it, over whatever is there
	}
	for key := range mine {
		if key != m.there.Holds {
			if err := m.drop(key); err != nil {
				return err
			}
		}
	}
	return nil
}

// mine are the snapshots that were made to migrate the disk.
func (m *move) mine(ctx context.Context) (map[repository.Key]bool, error) {
	volumes, err := m.v.SR.List(ctx)
	mine := map[repository.Key]bool{}
	for _, v := range volumes {
		if v.Keys[keyMigrate] != "" && v.Keys[keyOf] == string(m.v.Key) && !v.ReadWrite {
			mine[v.Key] = true
		}
	}
	return mine, err
}

// begin makes the disk on the other side.
func (m *move) begin(ctx context.Context) error {
	size, err := m.v.SectorSize(ctx)
	if err != nil {
		return err
	}
	host, _ := os.Hostname() // for people
	var made struct{ Key string }
	err = m.to.ask(ctx, &made, nil, "create", "--json", "--name", m.disk.Name, "--description", fmt.Sprintf("incomplete: volume %s of %s is being copied to it by srctl migrate", m.v.Key, host),
		"--sector-size", fmt.Sprint(size), "--exact", "--", m.to.sr, fmt.Sprint(m.disk.VirtualSize))
	if err != nil {
		return err
	}
	key, err := repository.ParseKey(made.Key)
	if err != nil {
		return err
	}
	return m.note(ctx, unfinished{Key: key})
}

// find finds the disk on the other side that a migration of this one has begun.
func (m *move) find(ctx context.Context, begun unfinished) error {
	var all []struct {
		Key         string
		ReadWrite   bool  `json:"read_write"`
		VirtualSize int64 `json:"virtual_size"`
	}
	if err := m.to.ask(ctx, &all, nil, "ls", "--json", "--", m.to.sr); err != nil {
		return err
	}
	for _, one := range all {
		if one.Key != string(begun.Key) || !one.ReadWrite {
			continue
		}
		m.there = begun
		// What was interrupted may have left it attached. If another is at it still, to attach it fails, and tells.
		m.to.ask(ctx, nil, nil, "detach", "--", m.to.sr, one.Key)
		// If the disk has grown since, so does the other.
		if one.VirtualSize < m.disk.VirtualSize {
			return m.to.ask(ctx, nil, nil, "resize", "--", m.to.sr, one.Key, fmt.Sprint(m.disk.VirtualSize))
		}
		return nil
	}
	return fault.Hint(fmt.Errorf("volume %s is being migrated to %s, as volume %s, which %s does not have", m.v.Key, begun.To, begun.Key, m.to.where()),
		"give that destination; or begin another with --anew, and destroy volume %s there, if it is there", begun.Key)
}

// unfinished is a disk on the other side that is not whole yet. The disk itself tells of it, by a pair: nobody else can.
type unfinished struct {
	Key     repository.Key `json:"key"`               // its own
	Holds   repository.Key `json:"holds,omitempty"`   // the snapshot that it holds; "" if none
	Writing repository.Key `json:"writing,omitempty"` // the one that it is to hold, and may in parts
	To      string         `json:"to"`                // where it is, for people
}

// parseUnfinished reads what a disk tells of its migration; nothing, if there is none.
func parseUnfinished(text string) (u unfinished, err error) {
	if text == "" {
		return u, nil
	}
	if err := json.Unmarshal([]byte(text), &u); err != nil {
		return u, err
	}
	for _, key := range []repository.Key{u.Key, cmp.Or(u.Holds, u.Key), cmp.Or(u.Writing, u.Key)} {
		if _, err := repository.ParseKey(string(key)); err != nil {
			return u, err
		}
	}
	return u, nil
}

// note has the disk tell what the other side holds.
func (m *move) note(ctx context.Context, next unfinished) error {
	next.To = m.to.where()
	data, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := m.v.Set(context.WithoutCancel(ctx), keyMigrate, string(data)); err != nil {
		return err
	}
	m.there = next
	return nil
}
