package image

import (
	"encoding/binary"
	"fmt"
	"strings"

	"reflinksr/internal/fault"
)

// mostSnapshots is how many an image may have, as qemu has it.
const mostSnapshots = 65536

// choose makes the image one of its snapshots, which is called by its name or its number.
func (q *qcow2) choose(snapshot string, table uint64, count uint32) error {
	if count > mostSnapshots {
		return q.f.bad(60, "it has %d snapshots, of at most %d", count, mostSnapshots)
	}
	if count > 0 && table > uint64(q.f.size) { // #nosec G115 -- a file's size
		return q.f.bad(64, "the table of snapshots is at byte %d, behind the end of the file, which has %d", table, q.f.size)
	}
	at, names, byNumber := int64(table), []string{}, (*snapshotEntry)(nil) // #nosec G115 -- if it is of no use, it is not used
	for range count {
		e, err := q.snapshotAt(at)
		if err != nil {
			return err
		}
		if e.name == snapshot {
			return q.become(e)
		}
		if e.id == snapshot && byNumber == nil {
			byNumber = e
		}
		if len(names) < 8 {
			names = append(names, fmt.Sprintf("%q", fault.Shorten(e.name)))
		}
		at = e.end
	}
	if byNumber != nil {
		return q.become(byNumber)
	}
	if len(names) == 0 {
		return q.f.bad(60, "it has no snapshots, and %q is asked for", fault.Shorten(snapshot))
	}
	if int(count) > len(names) {
		names = append(names, fmt.Sprintf("and %d more", int(count)-len(names)))
	}
	return q.f.bad(int64(table), "it has no snapshot %q, but %s", fault.Shorten(snapshot), strings.Join(names, ", "))
}

// snapshotEntry is an entry of the table of snapshots.
type snapshotEntry struct {
	id, name string
	begin    int64
	end      int64 // where the next one begins
	l1       int64
	length   int64
	disk     int64 // -1 if it does not tell
}

func (q *qcow2) snapshotAt(at int64) (*snapshotEntry, error) {
	h, err := q.f.bytes(at, 40, at, "an entry of the table of snapshots")
	if err != nil {
		return nil, err
	}
	e := &snapshotEntry{begin: at, l1: int64(binary.BigEndian.Uint64(h)), length: int64(binary.BigEndian.Uint32(h[8:])), disk: -1} // #nosec G115 -- what is negative is refused
	id, name, extra := int64(binary.BigEndian.Uint16(h[12:])), int64(binary.BigEndian.Uint16(h[14:])), int64(binary.BigEndian.Uint32(h[36:]))
	if extra > 1024 {
		return nil, q.f.bad(at+36, "an entry of the table of snapshots has %d bytes of extra data, of at most 1024", extra)
	}
	rest, err := q.f.bytes(at+40, int(extra+id+name), at, "an entry of the table of snapshots")
	if err != nil {
		return nil, err
	}
	if extra >= 16 {
		e.disk = int64(binary.BigEndian.Uint64(rest[8:])) // #nosec G115 -- what is negative is none
	}
	e.id, e.name = string(rest[extra:extra+id]), string(rest[extra+id:])
	e.end = at + (40+extra+id+name+7)/8*8
	return e, nil
}

// become makes the image a snapshot.
func (q *qcow2) become(e *snapshotEntry) error {
	q.l1, q.l1Length, q.l1Said = e.l1, e.length, e.begin
	if e.disk >= 0 {
		q.disk = e.disk
	}
	return nil
}
