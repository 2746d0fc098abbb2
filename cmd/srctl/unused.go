package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"reflinksr/cmd/internal/xapidb"
	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
)

// unusing is how it is found out what nobody uses.
type unusing struct {
	database  string
	written   string // when that was, as the operator says
	snapshots bool
}

const (
	// fresh is how old a database may be: what uses a disk since then it does not have.
	fresh = time.Hour
	// settled is how long a disk must have been there when the database was written: whoever makes one has a use for it, and gives
	// it to a VM a little later.
	settled = time.Hour
)

// judged is a volume, and whether it is of use to anybody.
type judged struct {
	v      repository.VolumeStat
	of     repository.Key // what it is a snapshot of
	unused bool
	why    string // it is not, or is not known to be
}

// destroyUnused destroys what the toolstack's database has no use for.
func (s *session) destroyUnused(ctx context.Context, name string, u unusing) error {
	sr, err := s.at(ctx, name)
	if err != nil {
		return err
	}
	all, db, err := u.judge(ctx, sr)
	if err != nil {
		return err
	}
	t, unused, total := &table{columns: unusedColumns}, 0, int64(0)
	for _, j := range all {
		if j.unused {
			unused++
			total += j.v.PhysicalUtilisation
		}
		state := "unused"
		if !j.unused {
			state = "kept"
		}
		t.rows = append(t.rows, row{value: s.toldJudged(j, false), below: printable(j.why), cells: []cell{text(string(j.v.Key)), text(modeOf(j.v.ReadWrite, j.v.VolumeType)), s.size(j.v.VirtualSize), s.size(j.v.PhysicalUtilisation), text(state), text(j.v.Name)}})
	}
	if !s.json {
		width := terminalWidth(s.out)
		if err := t.print(s.out, width); err != nil {
			return err
		}
		if err := indented(s.out, fmt.Sprintf("%d of %d volumes are unused, in which %s are allocated, as far as %s tells, written %v ago", unused, len(all), s.bytes(total), oneLine(db.Path), time.Since(db.Written).Round(time.Second)), 0, width); err != nil {
			return err
		}
	}
	if unused == 0 {
		return s.tellIn(values[toldJudged](t), nil)
	}
	if err := s.sure("destroy %d volumes of %s", unused, oneLine(s.path)); err != nil {
		return err
	}
	// Whoever was asked may have thought for long.
	again, _, err := u.judge(ctx, sr)
	if err != nil {
		return err
	}
	gone, failed := []toldJudged{}, error(nil)
	for _, j := range again {
		was := slices.IndexFunc(all, func(k judged) bool { return k.v.Key == j.v.Key })
		if !j.unused || was < 0 || !all[was].unused {
			continue
		}
		if err := (repository.Volume{SR: sr, Key: j.v.Key}).Destroy(ctx); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		gone = append(gone, s.toldJudged(j, true))
	}
	if s.json {
		return errors.Join(failed, printJSON(s.out, gone))
	}
	fmt.Fprintf(s.out, "%d volumes destroyed\n", len(gone))
	return failed
}

var unusedColumns = []column{{title: "KEY", cut: keysEnd}, {title: "MODE"}, {title: "SIZE", numbers: true}, {title: "ALLOCATED", numbers: true}, {title: "STATE"}, {title: "NAME", cut: textsEnd}}

// toldJudged is what is told to programs.
type toldJudged struct {
	Key       repository.Key `json:"key"`
	Path      string         `json:"path"`
	Name      string         `json:"name"`
	Virtual   int64          `json:"virtual_size"`
	Allocated int64          `json:"allocated_bytes"`
	Unused    bool           `json:"unused"`
	Why       string         `json:"why"`
	Destroyed bool           `json:"destroyed"`
}

func (s *session) toldJudged(j judged, destroyed bool) toldJudged {
	return toldJudged{j.v.Key, filepath.Join(s.path, string(j.v.Key)), j.v.Name, j.v.VirtualSize, j.v.PhysicalUtilisation, j.unused, j.why, destroyed}
}

// judge says of each volume of an SR whether anybody has a use for it.
func (u unusing) judge(ctx context.Context, sr repository.SR) ([]judged, *xapidb.Database, error) {
	db, err := u.open()
	if err != nil {
		return nil, nil, err
	}
	known, err := repository.KnownSRs(ctx)
	if err != nil {
		return nil, nil, err
	}
	at := slices.IndexFunc(known, func(k repository.Known) bool { return k.SR == sr })
	if at < 0 || !db.SRs[known[at].UUID] {
		return nil, nil, fault.Hint(fault.Errorf(fault.ErrInvalid, db.Path, "%s does not have this SR: it is of another pool, or was written before the SR was made", db.Path),
			"on this pool's master: xe pool-dump-database file-name=FILE")
	}
	volumes, err := sr.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	leases, err := sr.Leases(ctx)
	if err != nil {
		return nil, nil, err
	}
	held := map[repository.Key]bool{}
	for _, a := range leases {
		held[a.Key] = true
	}
	all := make([]judged, len(volumes))
	state := map[repository.Key]*judged{}
	for i, v := range volumes {
		all[i].v = v
		all[i].of, all[i].why = u.why(ctx, repository.Volume{SR: sr, Key: v.Key}, v, held[v.Key], known[at].UUID, db)
		state[v.Key] = &all[i]
	}
	// A snapshot is of use as long as its disk is.
	for i := range all {
		of := all[i].of
		for range all { // snapshots may be of snapshots, and of each other
			next := state[of]
			if next == nil || next.of == "" {
				break
			}
			of = next.of
		}
		if disk := state[of]; all[i].why == "" && disk != nil && disk != &all[i] && disk.why != "" {
			all[i].why = fmt.Sprintf("a snapshot of %s, which is kept", of)
		} else if v := db.VDIs[string(of)]; all[i].why == "" && of != "" && disk == nil && v != nil && v.SR != known[at].UUID {
			all[i].why = fmt.Sprintf("a snapshot of %s, which the database has in another SR", of)
		}
	}
	// A disk that is cloned at each boot takes the clone with it.
	for i, v := range volumes {
		if clone := state[repository.Key(v.Keys["clone-on-boot"])]; clone != nil && clone.why != "" && all[i].why == "" {
			all[i].why = fmt.Sprintf("%s is cloned of it at each boot, and is kept", clone.v.Key)
		}
	}
	for i := range all {
		all[i].unused = all[i].why == ""
	}
	return all, db, nil
}

// open opens a database that is recent enough, and the pool's.
func (u unusing) open() (*xapidb.Database, error) {
	if u.database == "" {
		if err := xapidb.IsMaster(xapidb.PoolFile); err != nil {
			return nil, err
		}
	}
	db, err := xapidb.Open(cmp.Or(u.database, xapidb.Default))
	if err != nil {
		return nil, err
	}
	if u.database != "" {
		// The time of a copy is that of the copying.
		if u.written == "" {
			return nil, misused("--database %s: nothing tells when a copy was written: say so with --written, the time at which xe pool-dump-database was called", u.database)
		}
		said, err := time.Parse(time.RFC3339, u.written)
		if err != nil {
			return nil, misused("--written: %v", err)
		}
		if said.Before(db.Written) && time.Until(db.Written) < time.Minute {
			db.Written = said
		}
	}
	if age := time.Since(db.Written); age > fresh || age < -time.Minute {
		return nil, fault.Hint(fault.Errorf(fault.ErrInvalid, db.Path, "%s was written at %s, and only what has been within %v can be believed", db.Path, db.Written.Format(time.RFC3339), fresh),
			"on the pool's master: xe pool-dump-database file-name=FILE")
	}
	return db, nil
}

// why says why a volume is of use, or may be: "" if it is not. Of a snapshot it says of what.
func (u unusing) why(ctx context.Context, v repository.Volume, st repository.VolumeStat, held bool, sr string, db *xapidb.Database) (of repository.Key, why string) {
	created, of, err := v.Made(ctx)
	if err != nil {
		return "", fmt.Sprintf("it cannot be looked at: %v", err)
	}
	row := db.VDIs[string(v.Key)]
	if row == nil || row.SR != sr {
		return of, "the database does not have it in this SR"
	}
	if row.SnapshotOf != "" {
		of = repository.Key(row.SnapshotOf)
	}
	snapshot := row.Snapshot || !st.ReadWrite || of != ""
	switch {
	case held:
		return of, "it is attached"
	case row.UsedBy != "":
		return of, "it is used by " + oneLine(row.UsedBy)
	case row.Type != "user":
		return of, "it is of the type " + oneLine(row.Type)
	case !row.Managed:
		return of, "the toolstack does not show it"
	case st.VolumeType != "":
		return of, "it tells which blocks have changed"
	case created.IsZero():
		return of, "nobody knows when it was made"
	case db.Written.Sub(created) < settled:
		return of, fmt.Sprintf("it was made within %v before the database was written", settled)
	case snapshot && !u.snapshots:
		return of, "it is a snapshot (--snapshots)"
	case snapshot && of == "" && !row.Snapshot:
		return of, "it is read-only, and nobody knows what it is a snapshot of"
	}
	if !snapshot {
		of = ""
	}
	return of, ""
}
