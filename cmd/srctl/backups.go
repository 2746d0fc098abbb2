package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/catalogue"
	"reflinksr/internal/repository"
)

var backupColumns = []column{{title: "DISK", cut: keysEnd}, {title: "TIME"}, {title: "KIND"}, {title: "SIZE", numbers: true}, {title: "STORED", numbers: true}, {title: "NAME", cut: textsEnd}}

// aBackup is a point in time for programs.
type aBackup struct {
	catalogue.Point
	Disk  repository.Key   `json:"disk"`
	Name  string           `json:"name"` // of the disk
	SR    string           `json:"sr"`   // its UUID
	Path  string           `json:"path"`
	Chain []repository.Key `json:"chain"` // the points whose streams it takes to restore it, the last its own
	Lost  string           `json:"lost"`  // why it cannot be restored, "" if nothing is known against it
}

func (s *session) backups() *cobra.Command {
	verify := false
	c := s.takes(s.narrowed(s.answersJSON(command("backups DIR [DISK]", "list the backups in a directory, or verify them",
		`backups lists the points in time of which a directory has backups, the newest of each
disk last: a full one is all of the disk, and a delta what has changed since the one
before it. The directory may be read-only, and no SR need be there.

With --verify it reads all of it, and compares the checksums. What is damaged is named,
with the points that are lost by it.`,
		`  srctl backups /backup
  srctl backups --verify /backup web
  srctl backups --json /backup | jq '.[] | select(.lost != "")'`, 1, 2,
		func(_ context.Context, args []string) error { return s.listBackups(args, verify) })), backupColumns), aFile)
	c.Flags().BoolVar(&verify, "verify", false, "read all of them, and compare the checksums")
	return c
}

// listBackups lists what there is, and fails if some of it is lost.
func (s *session) listBackups(args []string, verify bool) error {
	dir, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	var stores []*store
	var failed error
	if len(args) == 2 {
		st, err := storeOf(dir, args[1])
		if err != nil {
			return err
		}
		stores = append(stores, st)
	} else if stores, failed, err = storesIn(dir); err != nil {
		return err
	}
	t := &table{columns: backupColumns}
	for _, st := range stores {
		if verify {
			failed = errors.Join(failed, st.verifyAll())
		} else {
			for _, p := range st.Points {
				if err := st.broken[p.Key]; err != nil {
					failed = errors.Join(failed, st.explainLoss(err))
				}
			}
		}
		for i := range st.Points {
			t.rows = append(t.rows, s.backupRow(st, i))
		}
	}
	if len(t.rows) == 0 && !s.json {
		fmt.Fprintf(messages, "%s has no backups\n", printable(dir))
		return failed
	}
	return errors.Join(failed, answer[aBackup](s, t))
}

// storesIn is what a directory has of all disks, and what could not be read.
func storesIn(dir string) (stores []*store, failed, err error) {
	disks, err := disksIn(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, disk := range disks {
		st, err := openStore(dir, disk)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		stores = append(stores, st)
	}
	return stores, failed, nil
}

func (s *session) backupRow(st *store, at int) row {
	p := st.Points[at]
	a := aBackup{Point: p, Disk: st.Disk, Name: st.Name, SR: st.SR, Path: st.path(p), Chain: []repository.Key{}}
	chain, _ := st.Chain(at)
	for _, link := range chain {
		a.Chain = append(a.Chain, link.Key)
	}
	kind := "delta"
	if p.Since == "" {
		kind = "full"
	}
	if err := st.lostAt(at); err != nil {
		a.Lost = err.Error()
		kind = "lost"
	}
	return row{value: a, cells: []cell{text(string(st.Disk)), text(shownTime(p.At)), text(kind), s.size(p.Size), s.size(p.Bytes), text(st.Name)}}
}

// verifyAll reads every stream, and tells what is lost.
func (st *store) verifyAll() (failed error) {
	for _, p := range st.Points {
		err := st.broken[p.Key]
		if err == nil {
			err = st.verifyPoint(p)
		}
		if err != nil && st.broken[p.Key] != nil {
			err = st.explainLoss(err)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

func (st *store) verifyPoint(p catalogue.Point) error {
	f, err := os.OpenFile(st.path(p), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return st.verify(f, p)
}
