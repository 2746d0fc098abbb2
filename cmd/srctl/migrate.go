package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
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
	s      *session
	v      repository.Volume
	disk   repository.VolumeStat
	to     peer
	limit  int64 // bytes a second; 0: none
	there  unfinished
	rounds int
	bytes  int64 // that were copied, of streams
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
	lock, err := lockDisk("migration", m.v.Key)
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

// toTheEnd copies round after round, and the last one while nobody has the disk.
func (m *move) toTheEnd(ctx context.Context, wait bool) error {
	held, err := m.hold(ctx)
	for err == nil && !held {
		if err := m.converge(ctx); err != nil {
			return err
		}
		held, err = m.hold(ctx)
		if err == nil && !held && !wait {
			return fault.Hint(fmt.Errorf("volume %s: %w: what it held a moment ago is at %s", m.v.Key, errHasIt, m.to.where()),
				"shut down who has it (srctl show), and give the same command again: little is left to copy")
		}
		if err == nil && !held {
			held, err = m.await(ctx, time.Minute)
		}
	}
	if err != nil {
		return err
	}
	return m.last(ctx)
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
	if err == nil {
		err = m.compare(ctx)
	}
	if err == nil {
		err = m.finish(ctx)
	}
	return m.release(err)
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
