package image

import (
	"encoding/binary"
)

// vmdk is a sparse extent of a VMDK: VMware's "Virtual Disk Format 5.0". Grains may be compressed (streamOptimized).
//
// There is a library (masahiro331/go-vmdk-parser), which takes the sizes of tables from the file and makes room for them
// before it looks whether they can be, keeps all tables that it has seen, and reads no flat extents.
type vmdk struct {
	f          *file
	disk       int64 // bytes
	grain      int64 // bytes
	entries    int64 // of a grain table
	directory  int64 // where it is
	compressed bool
	zeroGrain  bool  // an entry of 1 means zeros
	described  int64 // where the description is, of so many bytes
	descLength int64
}

const (
	magicVMDK       = "KDMV"
	sectorSize      = 512
	vmdkZeroGrain   = 1 << 2
	vmdkCompressed  = 1 << 16
	vmdkAtEnd       = 0xffffffffffffffff // the directory's place is in a footer
	mostGrain       = 4096               // sectors
	mostGrainTable  = 1 << 16            // entries
	mostDescription = 1 << 20            // bytes
)

// openSparseVMDK reads the header of a sparse extent.
func openSparseVMDK(f *file) (*vmdk, error) {
	v, where, err := vmdkHeader(f, 0)
	if err != nil {
		return nil, err
	}
	said := int64(56)
	if where == vmdkAtEnd {
		said = f.size - 1024
		foot, there, err := vmdkHeader(f, said)
		if err != nil {
			return nil, err
		}
		said += 56
		foot.described, foot.descLength = v.described, v.descLength
		v, where = foot, there
	}
	if where == 0 || where > maxSize/sectorSize {
		return nil, f.bad(said, "the grain directory is at sector %d, where none can be", where)
	}
	v.directory = int64(where) * sectorSize // #nosec G115 -- it was looked at
	covers := v.grain * v.entries
	need := (v.disk + covers - 1) / covers
	if !f.has(v.directory, 4*need) {
		return nil, f.bad(said, "the grain directory is at byte %d, with %d entries, and the file has %d bytes", v.directory, need, f.size)
	}
	return v, nil
}

// vmdkHeader reads a header, or the footer that has the same form, and where that has the grain directory, in sectors.
func vmdkHeader(f *file, at int64) (*vmdk, uint64, error) {
	h, err := f.bytes(at, sectorSize, at, "the header")
	if err != nil {
		return nil, 0, err
	}
	le32 := func(at int) uint32 { return binary.LittleEndian.Uint32(h[at:]) }
	le64 := func(at int) uint64 { return binary.LittleEndian.Uint64(h[at:]) }
	if string(h[:4]) != magicVMDK {
		return nil, 0, f.bad(at, "there is no header of a sparse VMDK")
	}
	flags, capacity, grain, entries := le32(8), le64(12), le64(20), le32(44)
	switch {
	case le32(4) < 1 || le32(4) > 3:
		return nil, 0, f.bad(at+4, "it is of version %d of VMDK: 1 to 3 are known", le32(4))
	case capacity > maxSize/sectorSize:
		return nil, 0, f.bad(at+12, "the disk has %d sectors, of at most %d", capacity, uint64(maxSize/sectorSize))
	case grain == 0 || grain&(grain-1) != 0 || grain > mostGrain:
		return nil, 0, f.bad(at+20, "grains of %d sectors are none: they are a power of two, of at most %d", grain, mostGrain)
	case entries == 0 || entries > mostGrainTable:
		return nil, 0, f.bad(at+44, "grain tables of %d entries are none: they have at most %d", entries, mostGrainTable)
	case flags&vmdkCompressed != 0 && binary.LittleEndian.Uint16(h[77:]) != 1:
		return nil, 0, f.bad(at+77, "it is compressed in a way (%d) that is not known", binary.LittleEndian.Uint16(h[77:]))
	case le64(28) > maxSize/sectorSize || le64(36) > mostDescription/sectorSize:
		return nil, 0, f.bad(at+28, "the description is at sector %d, with %d sectors, where none can be", le64(28), le64(36))
	}
	// #nosec G115 -- all of it was looked at
	return &vmdk{f: f, disk: int64(capacity) * sectorSize, grain: int64(grain) * sectorSize, entries: int64(entries),
		compressed: flags&vmdkCompressed != 0, zeroGrain: flags&vmdkZeroGrain != 0,
		described: int64(le64(28)) * sectorSize, descLength: int64(le64(36)) * sectorSize}, le64(56), nil
}

func (v *vmdk) size() int64 { return v.disk }

func (v *vmdk) at(offset, most int64) (span, error) {
	covers := v.grain * v.entries
	table, err := v.sector(v.directory+4*(offset/covers), 4*v.entries)
	if err != nil {
		return span{}, err
	}
	if table == 0 {
		return span{length: covers - offset%covers, kind: zeros}, nil
	}
	s, err := v.piece(table, offset)
	for err == nil && s.packed == nil && s.length < most && (offset+s.length)%covers != 0 && offset+s.length < v.disk {
		next, e := v.piece(table, offset+s.length)
		if e != nil || next.kind != s.kind || next.packed != nil || s.kind == data && next.host != s.host+s.length {
			break // what is wrong with it is told when it is asked for
		}
		s.length += next.length
	}
	return s, err
}

// piece is what a grain table says of what begins at an offset, up to the end of the grain.
func (v *vmdk) piece(table, offset int64) (span, error) {
	in := offset % v.grain
	s := span{length: min(v.grain-in, v.disk-offset), kind: zeros}
	at := table + offset/v.grain%v.entries*4
	host, err := v.sector(at, 1)
	if err != nil || host == 0 || host == sectorSize && v.zeroGrain {
		return s, err
	}
	s.kind, s.in = data, v.f
	if !v.compressed {
		s.host = host + in
		if s.host >= v.f.size {
			s = span{length: s.length, kind: zeros}
		}
		return s, nil
	}
	marker, err := v.f.bytes(host, 12, at, "a compressed grain")
	if err != nil {
		return s, err
	}
	length := int64(binary.LittleEndian.Uint32(marker[8:]))
	if lba := binary.LittleEndian.Uint64(marker); lba != uint64((offset-in)/sectorSize) { // #nosec G115 -- not negative
		return s, v.f.bad(host, "a compressed grain is that of sector %d, and was looked for as that of %d", lba, (offset-in)/sectorSize)
	}
	if length == 0 || length > 2*v.grain+sectorSize || !v.f.has(host+12, length) {
		return s, v.f.bad(host+8, "a compressed grain has %d bytes, which cannot be", length)
	}
	s.host, s.packed = host+12, &packed{zlibbed, int(length), int(min(v.grain, v.disk-(offset-in))), in} // the last one may be a part
	return s, nil
}

// sector is the place, in bytes, that an entry of a table names, of something of at least so many bytes: 0 if it names none.
func (v *vmdk) sector(at, length int64) (int64, error) {
	p, err := v.f.entry(at, 4)
	if err != nil {
		return 0, err
	}
	where := int64(binary.LittleEndian.Uint32(p)) * sectorSize
	if where != 0 && !(where == sectorSize && v.zeroGrain) && !v.f.has(where, length) {
		return 0, v.f.bad(at, "a table names sector %d, behind the end of the file, which has %d bytes", where/sectorSize, v.f.size)
	}
	return where, nil
}
