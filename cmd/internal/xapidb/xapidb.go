// Package xapidb reads the toolstack's database, as xapi keeps it in /var/lib/xcp/state.db and xe pool-dump-database writes it: what
// disks are called, what they are snapshots of, and what uses them. That is XML of three levels, in which a row of a table is an
// element with an attribute for each field:
//
//	<database><manifest><pair key="…" value="…"/></manifest><table name="VDI"><row ref="OpaqueRef:…" uuid="…" …/></table></database>
//
// Whoever can name a disk has written a part of it, so it is read strictly: what is not of that form, or is longer than it can be, is
// refused with the line where it is.
package xapidb

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"reflinksr/internal/fault"
	"reflinksr/internal/uuids"
)

// Default is where xapi keeps it. On a member of a pool, which is not its master, that is a copy of some former time.
const Default = "/var/lib/xcp/state.db"

// limit is how long a database may be, in bytes.
const limit = 256 << 20

// Database is what is known of disks.
type Database struct {
	Path    string
	Written time.Time       // the file, last
	SRs     map[string]bool // by UUID
	VDIs    map[string]*VDI // by UUID
}

// VDI is a disk.
type VDI struct {
	UUID, Location    string
	SR                string // its UUID: "" if the database has no such SR
	Name, Description string
	Type              string // user, system, suspend, ha_statefile, …
	Snapshot          bool
	SnapshotOf        string    // the UUID of the disk that it is a snapshot of: "" if that is not known
	SnapshotTime      time.Time // zero if that is not known
	Sharable          bool
	Managed           bool   // it is shown: what is not is a base copy
	UsedBy            string // what else in the database names it: "" if nothing does
}

// Open reads a database from a file.
func Open(path string) (*Database, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fault.Errorf(fault.ErrInvalid, path, "%s is no regular file", path)
	}
	d, err := read(f)
	if err != nil {
		return nil, fault.Errorf(fault.ErrInvalid, path, "%s cannot be read as xapi's database: %v", path, err)
	}
	d.Path, d.Written = path, st.ModTime()
	return d, nil
}

// row is one of the VDI table.
type row struct {
	ref, sr, snapshotOf string
	vbds                string // what is to be in a table of its own
	vdi                 *VDI
}

// reading is a database that is being read.
type reading struct {
	table string
	srs   map[string]string // UUIDs by reference
	rows  map[string]*row   // by reference
	used  map[string]string // what names a UUID, by that; a reference has one in it
	db    *Database
}

// read reads a database up to its end.
func read(from io.Reader) (*Database, error) {
	in := &io.LimitedReader{R: from, N: limit + 1}
	dec := xml.NewDecoder(in)
	r := &reading{srs: map[string]string{}, rows: map[string]*row{}, used: map[string]string{}, db: &Database{SRs: map[string]bool{}, VDIs: map[string]*VDI{}}}
	var open []string
	whole := false
	for {
		token, err := dec.RawToken()
		if errors.Is(err, io.EOF) && err == io.EOF {
			break
		}
		if in.N == 0 {
			return nil, fmt.Errorf("it has more than %d bytes", limit)
		}
		if err != nil {
			return nil, err
		}
		line, _ := dec.InputPos()
		switch t := token.(type) {
		case xml.StartElement:
			if whole {
				return nil, fmt.Errorf("line %d: something follows its end", line)
			}
			if err := r.start(open, t); err != nil {
				return nil, fmt.Errorf("line %d: %w", line, err)
			}
			open = append(open, t.Name.Local)
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1] != t.Name.Local {
				return nil, fmt.Errorf("line %d: </%s> ends what has not begun", line, fault.Shorten(t.Name.Local))
			}
			open = open[:len(open)-1]
			whole = len(open) == 0
		case xml.CharData:
			if strings.TrimSpace(string(t)) != "" {
				return nil, fmt.Errorf("line %d: there is text between the rows", line)
			}
		case xml.Directive:
			return nil, fmt.Errorf("line %d: there is a directive <!%s>", line, fault.Shorten(string(t)))
		}
	}
	if !whole {
		return nil, errors.New("it ends before its end: it is not whole")
	}
	return r.db, r.finish()
}

// within are the elements, each with what it is in.
var within = map[string]string{"database": "", "manifest": "database", "pair": "manifest", "table": "database", "row": "table"}

func (r *reading) start(open []string, t xml.StartElement) error {
	name, in := t.Name.Local, ""
	if len(open) > 0 {
		in = open[len(open)-1]
	}
	if want, known := within[name]; !known || want != in || t.Name.Space != "" {
		return fmt.Errorf("<%s> in <%s> is nothing that such a database has", fault.Shorten(name), in)
	}
	fields := make(map[string]string, len(t.Attr))
	for _, a := range t.Attr {
		if _, twice := fields[a.Name.Local]; twice {
			return fmt.Errorf("<%s> has %s twice", name, fault.Shorten(a.Name.Local))
		}
		fields[a.Name.Local] = unprotect(a.Value)
	}
	switch name {
	case "table":
		if r.table = fields["name"]; r.table == "" {
			return errors.New("a table has no name")
		}
	case "row":
		return r.row(fields)
	}
	return nil
}

// row takes in what is of interest of a row.
func (r *reading) row(fields map[string]string) error {
	ref := fields["ref"]
	if ref == "" {
		return fmt.Errorf("a row of the table %s has no reference", fault.Shorten(r.table))
	}
	switch r.table {
	case "SR":
		uuid := fields["uuid"]
		if !uuids.IsCanonical(uuid) {
			return fmt.Errorf("the SR %s has the UUID %q, which is none", fault.Shorten(ref), fault.Shorten(uuid))
		}
		r.srs[ref], r.db.SRs[uuid] = uuid, true
		return nil
	case "VDI":
		return r.vdi(ref, fields)
	}
	what := r.table
	if label := fields["name__label"]; label != "" {
		what += " " + label
	} else if uuid := fields["uuid"]; uuid != "" {
		what += " " + uuid
	}
	for field, value := range fields {
		if field == "ref" || field == "_ref" || field == "uuid" {
			continue // its own
		}
		eachUUID(value, func(uuid string) {
			if old := r.used[uuid]; old == "" || what < old {
				r.used[strings.Clone(uuid)] = what
			}
		})
	}
	return nil
}

// eachUUID finds what looks like one.
func eachUUID(text string, do func(uuid string)) {
	for i := strings.IndexByte(text, '-'); i >= 0; {
		if i >= 8 && len(text) >= i+28 && uuids.IsCanonical(text[i-8:i+28]) {
			do(text[i-8 : i+28])
		}
		next := strings.IndexByte(text[i+1:], '-')
		if next < 0 {
			return
		}
		i += 1 + next
	}
}

func (r *reading) vdi(ref string, fields map[string]string) (err error) {
	v := &VDI{UUID: fields["uuid"], Location: fields["location"], Name: fields["name__label"], Description: fields["name__description"], Type: fields["type"]}
	if !uuids.IsCanonical(v.UUID) {
		return fmt.Errorf("the VDI %s has the UUID %q, which is none", fault.Shorten(ref), fault.Shorten(v.UUID))
	}
	if r.db.VDIs[v.UUID] != nil || r.rows[ref] != nil {
		return fmt.Errorf("there are two VDIs %s", v.UUID)
	}
	for name, to := range map[string]*bool{"is_a_snapshot": &v.Snapshot, "sharable": &v.Sharable, "managed": &v.Managed} {
		switch value := fields[name]; value {
		case "true":
			*to = true
		case "false":
		case "":
			*to = name == "managed"
		default:
			return fmt.Errorf("the VDI %s has %s as %s, which is neither true nor false", v.UUID, fault.Shorten(value), name)
		}
	}
	if v.SnapshotTime, err = when(fields["snapshot_time"]); err != nil {
		return fmt.Errorf("the VDI %s has a snapshot_time that is none: %w", v.UUID, err)
	}
	r.db.VDIs[v.UUID], r.rows[ref] = v, &row{ref, fields["SR"], fields["snapshot_of"], fields["VBDs"], v}
	return nil
}

// finish puts together what was in several rows.
func (r *reading) finish() error {
	for _, row := range r.rows {
		v := row.vdi
		v.SR = r.srs[row.sr]
		if of := r.rows[row.snapshotOf]; of != nil && v.Snapshot {
			v.SnapshotOf = of.vdi.UUID
		}
		v.UsedBy = r.used[v.UUID]
		if v.UsedBy == "" {
			v.UsedBy = r.used[v.Location]
		}
		id := strings.TrimPrefix(row.ref, "OpaqueRef:")
		if v.UsedBy == "" {
			v.UsedBy = r.used[id]
		}
		if v.UsedBy == "" && strings.Contains(row.vbds, "OpaqueRef:") {
			v.UsedBy = "a VBD that the database does not have itself, " + row.vbds
		}
		if v.UsedBy == "" && !uuids.IsCanonical(id) {
			v.UsedBy = "a reference of a form that is not known, " + row.ref
		}
	}
	return nil
}

// when reads a time as xapi writes it, now (RFC 3339) and formerly: zero of none, which xapi has as the beginning of 1970.
func when(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, form := range []string{time.RFC3339, "20060102T15:04:05Z07:00", "20060102T15:04:05", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(form, text); err == nil {
			if t.Unix() == 0 {
				return time.Time{}, nil
			}
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q", fault.Shorten(text))
}

// unprotect undoes what keeps XML's readers from changing spaces: %. is a blank, %t %n %r what they are in C, %% is %.
func unprotect(text string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+1 < len(text) {
			if plain := strings.IndexByte("._tnr%", text[i+1]); plain >= 0 {
				b.WriteString([]string{" ", "  ", "\t", "\n", "\r", "%"}[plain])
				i++
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
