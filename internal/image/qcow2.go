package image

import (
	"encoding/binary"
	"math/bits"
)

// qcow2 is a qcow2 image of version 2 or 3, or a snapshot in one: https://www.qemu.org/docs/master/interop/qcow2.html
type qcow2 struct {
	f        *file
	disk     int64 // its size
	version  uint32
	bits     uint  // of a cluster
	cluster  int64 // bytes
	unit     int64 // bytes that a table has something to say of: a cluster, or one of 32 parts of it
	entry    int64 // bytes that an entry has in a table of the second level
	method   method
	l1       int64 // where the table of the first level is
	l1Length int64 // entries
	l1Said   int64 // where the file says that
	nested   backing
}

// backing is the file that an image takes from what it has not.
type backing struct {
	name   string // "" if there is none
	format string
	said   int64 // where the file names it
}

// covers is how many bytes of the disk a table of the second level is about.
func (q *qcow2) covers() int64 { return q.cluster / q.entry * q.cluster }

func (q *qcow2) size() int64 { return q.disk }

const (
	offsetMask = 0x00fffffffffffe00
	packedFlag = 1 << 62
	zeroFlag   = 1
)

func (q *qcow2) at(offset, most int64) (span, error) {
	index := offset / q.covers()
	table, err := q.table(index)
	if err != nil {
		return span{}, err
	}
	if table == 0 { // so may those be that follow
		length := q.covers() - offset%q.covers()
		for length < most && offset+length < q.disk {
			if next, err := q.f.big64(q.l1 + 8*(index+1)); err != nil || next&offsetMask != 0 {
				break
			}
			index, length = index+1, length+q.covers()
		}
		return span{length: length}, nil
	}
	s, err := q.piece(table, offset)
	for err == nil && s.packed == nil && s.length < most && (offset+s.length)%q.covers() != 0 && offset+s.length < q.disk {
		next, e := q.piece(table, offset+s.length)
		if e != nil || next.kind != s.kind || next.packed != nil || s.kind == data && next.host != s.host+s.length {
			break // what is wrong with it is told when it is asked for
		}
		s.length += next.length
	}
	return s, err
}

// table is where the table of the second level is that an entry of the first names: 0 if there is none.
func (q *qcow2) table(index int64) (int64, error) {
	at := q.l1 + 8*index
	e, err := q.f.big64(at)
	if err != nil {
		return 0, err
	}
	table := int64(e & offsetMask)
	switch {
	case table == 0:
		return 0, nil
	case table%q.cluster != 0:
		return 0, q.f.bad(at, "the table of level 1 names a table at byte %d, where no cluster begins", table)
	case !q.f.has(table, q.cluster):
		return 0, q.f.bad(at, "the table of level 1 names a table at byte %d, behind the end of the file, which has %d", table, q.f.size)
	}
	return table, nil
}

// piece is what a table of the second level says of what begins at an offset, up to the end of a unit.
func (q *qcow2) piece(table, offset int64) (span, error) {
	at := table + offset%q.covers()/q.cluster*q.entry
	p, err := q.f.entry(at, int(q.entry))
	if err != nil {
		return span{}, err
	}
	e := binary.BigEndian.Uint64(p)
	if e&packedFlag != 0 {
		return q.packed(e, at, offset)
	}
	s := span{length: q.unit - offset%q.unit}
	host := int64(e & offsetMask)
	zero, there := e&zeroFlag != 0, host != 0
	if q.entry == 16 {
		bitmap := binary.BigEndian.Uint64(p[8:])
		part := uint(offset % q.cluster / q.unit) // #nosec G115 -- below 32
		zero, there = bitmap>>(32+part)&1 != 0, bitmap>>part&1 != 0
		if there && zero {
			return s, q.f.bad(at, "the table of level 2 has a part of a cluster as data and as zeros")
		}
		if there && host == 0 {
			return s, q.f.bad(at, "the table of level 2 has data, and does not say where")
		}
	}
	switch {
	case zero && q.version < 3:
		return s, q.f.bad(at, "the table of level 2 has a cluster of zeros, which version 2 of the format has not")
	case zero:
		s.kind = zeros
	case there && host%q.cluster != 0:
		return s, q.f.bad(at, "the table of level 2 has data at byte %d, where no cluster begins", host)
	case there && host >= q.f.size:
		return s, q.f.bad(at, "the table of level 2 has data at byte %d, behind the end of the file, which has %d", host, q.f.size)
	case there:
		s.kind, s.in, s.host = data, q.f, host+offset%q.cluster
	}
	return s, nil
}

// packed is a compressed cluster.
func (q *qcow2) packed(e uint64, at, offset int64) (span, error) {
	split := 62 - (q.bits - 8)
	host := int64(e & (1<<split - 1)) // #nosec G115 -- of 62 bits at most
	sectors := int64(e>>split&(1<<(q.bits-8)-1)) + 1
	if host >= q.f.size {
		return span{}, q.f.bad(at, "the table of level 2 has a compressed cluster at byte %d, behind the end of the file, which has %d", host, q.f.size)
	}
	length := min(sectors*512-host%512, q.f.size-host)
	return span{length: q.cluster - offset%q.cluster, kind: data, in: q.f, host: host,
		packed: &packed{q.method, int(length), int(q.cluster), offset % q.cluster}}, nil
}

// mostL1 is how many entries a table of the first level may have, as qemu has it: 32 MiB.
const mostL1 = 4 << 20

// firstTable looks whether the table of the first level can be what the file says.
func (q *qcow2) firstTable() error {
	if q.disk < 0 || q.disk > maxSize {
		return q.f.bad(24, "the disk has %d bytes, of at most %d", uint64(q.disk), int64(maxSize))
	}
	// Of a table that covers more than 2^63 bytes one entry is enough.
	high, covers := bits.Mul64(uint64(q.cluster/q.entry), uint64(q.cluster)) // #nosec G115 -- powers of two
	if high != 0 || covers > 1<<62 {
		return q.f.bad(20, "clusters of %d bytes are too large", q.cluster)
	}
	need := (q.disk + q.covers() - 1) / q.covers()
	switch {
	case q.l1Length > mostL1:
		return q.f.bad(q.l1Said, "the table of level 1 has %d entries, of at most %d", q.l1Length, mostL1)
	case q.l1Length < need:
		return q.f.bad(q.l1Said, "the table of level 1 has %d entries, and a disk of %d bytes needs %d", q.l1Length, q.disk, need)
	case need > 0 && (q.l1 <= 0 || q.l1%q.cluster != 0):
		return q.f.bad(q.l1Said, "the table of level 1 is at byte %d, where no cluster begins", q.l1)
	case !q.f.has(q.l1, 8*q.l1Length) && need > 0:
		return q.f.bad(q.l1Said, "the table of level 1 is at byte %d, with %d entries, and the file has %d bytes", q.l1, q.l1Length, q.f.size)
	}
	return nil
}
