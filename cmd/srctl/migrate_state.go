package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
)

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
