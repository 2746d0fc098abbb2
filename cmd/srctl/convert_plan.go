package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"reflinksr/cmd/internal/vhdtree"
	"reflinksr/cmd/internal/xapidb"
	"reflinksr/internal/fault"
	"reflinksr/internal/overwrite"
	"reflinksr/internal/repository"
)

// conversion is what is to become of a source.
type conversion struct {
	source  *vhdtree.Source
	sr      repository.SR
	db      *xapidb.Database // nil: there is none
	roots   []*step
	steps   []*step // each after its parent
	volumes int
	dead    []string // base copies of nothing
	free    int64    // bytes
}

// step is what becomes of a file.
type step struct {
	file        *vhdtree.File
	c           repository.Converted
	known       bool // the database has it
	there, same bool // it is made already; and for certain is what it would be
	needed      bool // it, or what is made of it, is to be made
	children    []*step
}

// planConversion looks at the source and at what is there of it.
func (s *session) planConversion(ctx context.Context, path string, sr repository.SR, db *xapidb.Database) (_ *conversion, err error) {
	c := &conversion{sr: sr, db: db}
	if c.source, err = vhdtree.Open(ctx, path, overwrite.MayRead()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.source.Close()
		}
	}()
	for _, root := range c.source.Roots {
		st, err := c.plan(ctx, root, nil)
		if err != nil {
			return nil, err
		}
		if st != nil {
			c.roots = append(c.roots, st)
		}
	}
	if len(c.roots) == 0 && len(c.source.Refused) == 0 {
		return nil, fault.Hint(fault.Errorf(fault.ErrInvalid, path, "there is no disk in %s: no file is called <uuid>.vhd", path),
			"give the directory in which the VHDs are: of an EXT or NFS SR, /run/sr-mount/<uuid of the SR>")
	}
	at, err := sr.Stat(ctx)
	c.free = at.FreeSpace
	return c, err
}

// plan is what becomes of a file and of what is made of it: nil if nothing does.
func (c *conversion) plan(ctx context.Context, f *vhdtree.File, parent *step) (*step, error) {
	key, err := repository.ParseKey(f.Key)
	if err != nil {
		return nil, err
	}
	st := &step{file: f, c: repository.Converted{Key: key, Size: f.Size, Stamp: f.Stamp(), Base: f.Hidden}}
	if parent != nil {
		st.c.Parent, st.c.ParentBase, st.c.ParentSize = parent.c.Key, parent.c.Base, parent.c.Size
	}
	if !f.Hidden {
		c.volumes++
		c.name(st)
	}
	before := len(c.steps)
	c.steps = append(c.steps, st)
	for _, child := range c.inOrder(f.Children) {
		made, err := c.plan(ctx, child, st)
		if err != nil {
			return nil, err
		}
		if made != nil {
			st.children = append(st.children, made)
			st.needed = st.needed || made.needed
		}
	}
	if f.Hidden && len(st.children) == 0 {
		c.steps, c.dead = c.steps[:before], append(c.dead, f.Key)
		return nil, nil
	}
	if st.there, st.same, err = c.sr.IsConverted(ctx, st.c); err != nil {
		return nil, err
	}
	if !f.Hidden {
		st.needed = !st.there
	}
	return st, nil
}

// inOrder sorts what is made of a file: snapshots as they were taken, then what others are made of, then disks, so that who lists
// volumes by their age has them as they came.
func (c *conversion) inOrder(files []*vhdtree.File) []*vhdtree.File {
	rank := func(f *vhdtree.File) (kind int, at time.Time) {
		if f.Hidden {
			return 1, at
		}
		if v := c.known(f.Key); v != nil && v.Snapshot {
			return 0, v.SnapshotTime
		}
		return 2, at
	}
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b *vhdtree.File) int {
		kindA, atA := rank(a)
		kindB, atB := rank(b)
		return cmp.Or(cmp.Compare(kindA, kindB), atA.Compare(atB), strings.Compare(a.Key, b.Key))
	})
	return files
}

func (c *conversion) known(key string) *xapidb.VDI {
	if c.db == nil {
		return nil
	}
	return c.db.VDIs[key]
}

// name gives a disk what the database has of it. What it has for the toolstack it has in the keys of the volume, by the names under
// which that notes it there itself.
func (c *conversion) name(st *step) {
	v := c.known(st.file.Key)
	if v == nil {
		st.c.Name = st.file.Key
		return
	}
	st.known = true
	st.c.Name, st.c.Description, st.c.Sharable, st.c.Snapshot = v.Name, v.Description, v.Sharable, v.Snapshot
	st.c.Keys = map[string]string{}
	if v.Type != "" {
		st.c.Keys["vdi-type"] = v.Type
	}
	if !v.Snapshot {
		return
	}
	st.c.Keys["is_a_snapshot"] = "true"
	if !v.SnapshotTime.IsZero() {
		st.c.At, st.c.Keys["snapshot_time"] = v.SnapshotTime, v.SnapshotTime.Format(time.RFC3339)
	}
	if v.SnapshotOf == "" {
		return
	}
	st.c.Keys["snapshot_of"] = v.SnapshotOf
	// A snapshot of a snapshot may be one of itself, as far as a database can say: of those the volume only knows the one.
	if of := c.known(v.SnapshotOf); of != nil && !of.Snapshot {
		if key, err := repository.ParseKey(v.SnapshotOf); err == nil {
			st.c.Of = key
		}
	}
}

// left is how many volumes are to be made.
func (c *conversion) left() (n int) {
	for _, st := range c.steps {
		if !st.c.Base && !(st.there && st.same) {
			n++
		}
	}
	return n
}

// costs is how many bytes are moved for a file: its own, and those of the disk that it is, which is read again.
func (st *step) costs() (n int64) {
	if st.c.Base && !st.needed || st.same {
		return 0
	}
	if !st.there || st.c.Base {
		n = st.file.Own
	}
	if st.c.Base {
		return n
	}
	whole := int64(0)
	for f := st.file; f != nil; f = f.Parent {
		whole += f.Own
	}
	return n + min(whole, st.file.Size)
}

// refused is the error of what is not converted, once all else is.
func (c *conversion) refused() error {
	var all []error
	for _, r := range c.source.Refused {
		all = append(all, fmt.Errorf("%w (not converted: %s)", r.Why, some(r.Keys)))
	}
	return errors.Join(all...)
}

// some names some of many.
func some(names []string) string {
	const most = 3
	text := make([]string, 0, most)
	for _, name := range names[:min(len(names), most)] {
		text = append(text, oneLine(name))
	}
	if more := len(names) - most; more > 0 {
		text = append(text, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(text, ", ")
}

// toldConversion is what is told of a conversion to programs, sizes in bytes.
type toldConversion struct {
	Source    string          `json:"source"`
	Path      string          `json:"path"`
	Database  string          `json:"database"` // "": there is none
	Disks     []toldConverted `json:"disks"`
	Bases     int             `json:"base_copies"`
	Writes    int64           `json:"writes"` // at most
	FreeSpace int64           `json:"free_space"`
	Refused   []toldRefusal   `json:"refused"`
	Unused    []string        `json:"unused_base_copies"`
	Foreign   []string        `json:"foreign"` // files that are no VHDs called by a UUID
	Seconds   float64         `json:"seconds"` // 0: nothing was done, or not to the end
}

type toldConverted struct {
	Key         repository.Key `json:"key"`
	Path        string         `json:"path"`
	Name        string         `json:"name"`
	Known       bool           `json:"in_database"`
	Snapshot    bool           `json:"snapshot"`
	Of          repository.Key `json:"snapshot_of"`
	VirtualSize int64          `json:"virtual_size"`
	Writes      int64          `json:"writes"` // of its own, which nothing else shares
	State       string         `json:"state"`  // missing, there, or done: that it is what it must be is certain
}

type toldRefusal struct {
	Keys   []string `json:"keys"`
	Reason string   `json:"reason"`
}

func (c *conversion) told(s *session) toldConversion {
	t := toldConversion{Source: c.source.Path, Path: s.path, FreeSpace: c.free, Disks: []toldConverted{}, Refused: []toldRefusal{}, Unused: append([]string{}, c.dead...), Foreign: append([]string{}, c.source.Foreign...)}
	if c.db != nil {
		t.Database = c.db.Path
	}
	for _, r := range c.source.Refused {
		t.Refused = append(t.Refused, toldRefusal{r.Keys, r.Why.Error()})
	}
	for _, st := range c.steps {
		if st.needed && !st.same {
			t.Writes += st.file.Needs
		}
		if st.c.Base {
			t.Bases++
			continue
		}
		t.Disks = append(t.Disks, toldConverted{Key: st.c.Key, Path: filepath.Join(s.path, string(st.c.Key)), Name: st.c.Name, Known: st.known, Snapshot: st.c.Snapshot, Of: st.c.Of,
			VirtualSize: st.c.Size, Writes: st.file.Needs})
	}
	t.count(c)
	return t
}

// count says of each disk how far it is.
func (t *toldConversion) count(c *conversion) {
	i := 0
	for _, st := range c.steps {
		if st.c.Base {
			continue
		}
		switch {
		case st.same:
			t.Disks[i].State = "done"
		case st.there:
			t.Disks[i].State = "there"
		default:
			t.Disks[i].State = "missing"
		}
		i++
	}
}

var convertedColumns = []column{{title: "KEY", cut: keysEnd}, {title: "MODE"}, {title: "SIZE", numbers: true}, {title: "WRITES", numbers: true}, {title: "STATE"}, {title: "NAME", cut: textsEnd}}

// printConversion tells what would be done.
func (s *session) printConversion(c *conversion, told toldConversion) error {
	t := &table{columns: convertedColumns}
	snapshots, unknown := 0, []string(nil)
	for _, d := range told.Disks {
		if d.Snapshot {
			snapshots++
		}
		if !d.Known {
			unknown = append(unknown, string(d.Key))
		}
		t.rows = append(t.rows, row{value: d, cells: []cell{text(string(d.Key)), text(modeOf(!d.Snapshot, "")), s.size(d.VirtualSize), s.size(d.Writes), text(d.State), text(d.Name)}})
	}
	width := terminalWidth(s.out)
	if err := t.print(s.out, width); err != nil {
		return err
	}
	lines := []string{fmt.Sprintf("%d disks, %d of them snapshots, and %d base copies, in %d trees; %d are to be made", len(told.Disks), snapshots, told.Bases, len(c.roots), c.left())}
	enough := ""
	if told.Writes > told.FreeSpace {
		enough = ": that may not be enough"
	}
	lines = append(lines, fmt.Sprintf("at most %s are written, and %s are free%s", s.bytes(told.Writes), s.bytes(told.FreeSpace), enough))
	switch {
	case c.db == nil:
		lines = append(lines, "there is no database of the toolstack's: disks are called by their UUIDs, and what is a snapshot is not known: all are writable (--database FILE names one)")
	default:
		lines = append(lines, fmt.Sprintf("names are those of %s, written at %s", oneLine(c.db.Path), c.db.Written.Format(time.RFC3339)))
		if len(unknown) > 0 {
			lines = append(lines, fmt.Sprintf("the database does not have %d of them: %s", len(unknown), some(unknown)))
		}
	}
	if len(told.Unused) > 0 {
		lines = append(lines, fmt.Sprintf("left out, since nothing is made of them: base copies %s", some(told.Unused)))
	}
	if len(told.Foreign) > 0 {
		lines = append(lines, fmt.Sprintf("left out, since they are no VHDs called by a UUID: %s", some(told.Foreign)))
	}
	for _, r := range told.Refused {
		lines = append(lines, fmt.Sprintf("refused: %s: %s", some(r.Keys), printable(r.Reason)))
	}
	for _, line := range lines {
		if err := indented(s.out, line, 0, width); err != nil {
			return err
		}
	}
	return nil
}
