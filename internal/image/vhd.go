package image

import (
	"encoding/binary"
	"fmt"
)

// vhd is a dynamic or a differencing VHD: Microsoft's "Virtual Hard Disk Image Format Specification", 1.0. A fixed one is a
// raw disk before a footer.
type vhd struct {
	f      *file
	disk   int64 // its size
	block  int64 // bytes
	bitmap int64 // of a block, in bytes: it says for each sector whether it is there
	table  int64 // where the table of blocks is
	missed kind  // what a sector is that is not there
	nested vhdParent
}

const (
	vhdFixed        = 2
	vhdDynamic      = 3
	vhdDifferencing = 4
	vhdFooter       = 512 // bytes
	vhdNoBlock      = 0xffffffff
)

// footerOf reads a footer, or the copy of one: nil if there is none at that place.
func footerOf(f *file, at int64) ([]byte, error) {
	if !f.has(at, vhdFooter) {
		return nil, nil
	}
	p, err := f.bytes(at, vhdFooter, at, "the footer")
	if err != nil || string(p[:8]) != "conectix" || !summed(p, 64) {
		return nil, err
	}
	return p, nil
}

// summed says whether a structure has the checksum that it must have.
func summed(p []byte, at int) bool { return binary.BigEndian.Uint32(p[at:]) == vhdSum(p, at) }

func vhdSum(p []byte, at int) uint32 {
	sum := uint32(0)
	for i, b := range p {
		if i < at || i >= at+4 {
			sum += uint32(b)
		}
	}
	return ^sum
}

// footer finds the footer: at the end, or, if the writer was interrupted there, the copy at the beginning.
func footer(f *file) (p []byte, at int64, err error) {
	// Some writers leave bytes behind it up to a whole sector; Virtual PC's old ones have 511 bytes of it.
	for _, at := range []int64{f.size - vhdFooter, f.size &^ 511, 0} {
		if p, err := footerOf(f, at); err != nil || p != nil {
			return p, at, err
		}
	}
	return nil, 0, f.bad(max(0, f.size-vhdFooter), "there is no VHD footer with a right checksum, nor a copy at byte 0")
}

// openVHD reads footer and header.
func openVHD(f *file) (layer, *vhd, error) {
	p, at, err := footer(f)
	if err != nil {
		return nil, nil, err
	}
	disk := int64(binary.BigEndian.Uint64(p[48:])) // #nosec G115 -- what is negative is refused
	if disk < 0 || disk > maxSize {
		return nil, nil, f.bad(at+48, "the disk has %d bytes, of at most %d", uint64(disk), int64(maxSize)) // #nosec G115 -- as it was read
	}
	switch kind := binary.BigEndian.Uint32(p[60:]); kind {
	case vhdFixed:
		if disk > f.size-vhdFooter {
			return nil, nil, f.bad(at+48, "the disk has %d bytes, and there are %d: the file is truncated", disk, max(0, f.size-vhdFooter))
		}
		return &raw{f, 0, disk}, &vhd{f: f}, nil
	case vhdDynamic, vhdDifferencing:
		v := &vhd{f: f, disk: disk, missed: zeros}
		if kind == vhdDifferencing {
			v.missed = absent
		}
		return v, v, v.header(binary.BigEndian.Uint64(p[16:]), at+16)
	default:
		return nil, nil, f.bad(at+60, "it is a VHD of type %d: 2 (fixed), 3 (dynamic) and 4 (differencing) are known", kind)
	}
}

// header reads the header of a dynamic disk.
func (v *vhd) header(where uint64, said int64) error {
	at := int64(where) // #nosec G115 -- what is negative is refused
	h, err := v.f.bytes(at, 1024, said, "the header of a dynamic disk")
	if err != nil {
		return err
	}
	if string(h[:8]) != "cxsparse" {
		return v.f.bad(at, "there is no header of a dynamic disk")
	}
	if !summed(h, 36) {
		return v.f.bad(at+36, "the checksum of the header of a dynamic disk is wrong")
	}
	v.table, v.block = int64(binary.BigEndian.Uint64(h[16:])), int64(binary.BigEndian.Uint32(h[32:])) // #nosec G115 -- what is negative is refused
	entries := int64(binary.BigEndian.Uint32(h[28:]))
	if v.block < 512 || v.block&(v.block-1) != 0 || v.block > 256<<20 {
		return v.f.bad(at+32, "blocks of %d bytes are none: they are a power of two, of 512 bytes to 256 MiB", v.block)
	}
	v.bitmap = (v.block/512/8 + 511) / 512 * 512
	need := (v.disk + v.block - 1) / v.block
	switch {
	case entries < need:
		return v.f.bad(at+28, "the table of blocks has %d entries, and a disk of %d bytes needs %d", entries, v.disk, need)
	case v.table%512 != 0 || !v.f.has(v.table, 4*need):
		return v.f.bad(at+16, "the table of blocks is at byte %d, with %d entries, and the file has %d bytes", uint64(v.table), need, v.f.size) // #nosec G115 -- as it was read
	}
	if v.missed == absent {
		return v.nested.read(v.f, h, at)
	}
	return nil
}

func (v *vhd) size() int64 { return v.disk }

func (v *vhd) at(offset, most int64) (span, error) {
	index := offset / v.block
	begin, err := v.where(index)
	if err != nil {
		return span{}, err
	}
	if begin == 0 {
		length := v.block - offset%v.block
		for length < most && offset+length < v.disk {
			if next, err := v.where(index + 1); err != nil || next != 0 {
				break
			}
			index, length = index+1, length+v.block
		}
		return span{length: length, kind: v.missed}, nil
	}
	// Sectors that are the same to the end of the block, or to where they are not.
	in := offset % v.block
	there, err := v.has(begin, in)
	if err != nil {
		return span{}, err
	}
	end := in&^511 + 512
	for end < v.block && end-in < most {
		if next, err := v.has(begin, end); err != nil || next != there {
			break
		}
		end += 512
	}
	if !there {
		return span{length: end - in, kind: v.missed}, nil
	}
	return span{length: end - in, kind: data, in: v.f, host: begin + v.bitmap + in}, nil
}

// where is where a block begins, with its bitmap: 0 if it is not there.
func (v *vhd) where(index int64) (int64, error) {
	at := v.table + 4*index
	p, err := v.f.entry(at, 4)
	if err != nil {
		return 0, err
	}
	sector := binary.BigEndian.Uint32(p)
	if sector == vhdNoBlock {
		return 0, nil
	}
	begin := int64(sector) * 512
	if sector == 0 || !v.f.has(begin, v.bitmap) || begin+v.bitmap >= v.f.size {
		return 0, v.f.bad(at, "the table of blocks has block %d at byte %d, which is none of the file's %d", index, begin, v.f.size)
	}
	return begin, nil
}

// has says whether a sector of a block is there.
func (v *vhd) has(begin, in int64) (bool, error) {
	sector := in / 512
	p, err := v.f.entry(begin+sector/8, 1)
	if err != nil {
		return false, err
	}
	return p[0]>>(7-sector%8)&1 != 0, nil
}

// isParent refuses what is not the VHD that another was made of.
func (p *vhdParent) isParent(f *file) error {
	foot, at, err := footer(f)
	if err != nil {
		return err
	}
	if string(foot[68:84]) != string(p.id) {
		return f.bad(at+68, "it has the identity %s, and the image that names it as its parent was made of %s", uuidText(foot[68:84]), uuidText(p.id))
	}
	return nil
}

func uuidText(p []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", p[:4], p[4:6], p[6:8], p[8:10], p[10:16])
}
