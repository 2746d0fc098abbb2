package image

import (
	"encoding/binary"
	"math/bits"
)

const magicQcow2 = "QFI\xfb"

// The features of a qcow2 image that who does not know them must not read it without.
const (
	dirtyFeature = 1 << iota // counts of references may be wrong: they are not read
	corruptFeature
	externalFeature
	compressionFeature
	extendedFeature
)

// openQcow2 reads the header of a qcow2 image, or of a snapshot in it if that is named.
func openQcow2(f *file, snapshot string) (*qcow2, error) {
	h, err := f.bytes(0, 72, 0, "the header")
	if err != nil {
		return nil, err
	}
	be32 := func(at int) uint32 { return binary.BigEndian.Uint32(h[at:]) }
	be64 := func(at int) uint64 { return binary.BigEndian.Uint64(h[at:]) }
	q := &qcow2{f: f, version: be32(4), disk: int64(be64(24)), l1: int64(be64(40)), l1Length: int64(be32(36)), l1Said: 36, entry: 8} // #nosec G115 -- what is negative is refused
	if string(h[:4]) != magicQcow2 {
		return nil, f.bad(0, "it does not begin as a qcow2 image does")
	}
	if q.version != 2 && q.version != 3 {
		return nil, f.bad(4, "it is of version %d of qcow2: 2 and 3 are known", q.version)
	}
	if clusterBits := be32(20); clusterBits < 9 || clusterBits > 21 {
		return nil, f.bad(20, "clusters of 2^%d bytes are none: they have 512 bytes to 2 MiB", clusterBits)
	}
	q.bits = uint(be32(20))
	q.cluster = 1 << q.bits
	q.unit = q.cluster
	if be32(32) != 0 {
		return nil, f.bad(32, "it is encrypted: decrypt it first (qemu-img convert)")
	}
	length := uint32(72)
	if q.version == 3 {
		if length, err = q.features(); err != nil {
			return nil, err
		}
	}
	if err := q.extensions(int64(length), be64(8), be32(16)); err != nil {
		return nil, err
	}
	if snapshot != "" {
		if err := q.choose(snapshot, be64(64), be32(60)); err != nil {
			return nil, err
		}
	}
	return q, q.firstTable()
}

// features reads what a header of version 3 has more, and refuses what it needs that is not known.
func (q *qcow2) features() (length uint32, err error) {
	h, err := q.f.bytes(0, 104, 0, "the header")
	if err != nil {
		return 0, err
	}
	need := binary.BigEndian.Uint64(h[72:])
	length = binary.BigEndian.Uint32(h[100:])
	switch known := uint64(dirtyFeature | corruptFeature | externalFeature | compressionFeature | extendedFeature); {
	case length < 104 || length%8 != 0 || int64(length) > q.cluster:
		return 0, q.f.bad(100, "the header has %d bytes, which none has", length)
	case need&corruptFeature != 0:
		return 0, q.f.bad(72, "it says of itself that it is corrupt: qemu-img check -r all mends it, or says what is lost")
	case need&externalFeature != 0:
		return 0, q.f.bad(72, "its data are in another file, which is not supported: qemu-img convert makes one file of it")
	case need&^known != 0:
		return 0, q.f.bad(72, "it cannot be read without the feature of bit %d, which is not known", bits.TrailingZeros64(need&^known))
	}
	if need&extendedFeature != 0 {
		if q.bits < 14 {
			return 0, q.f.bad(20, "clusters of %d bytes are too small for 32 parts", q.cluster)
		}
		q.unit, q.entry = q.cluster/32, 16
	}
	kind := byte(0)
	if length > 104 {
		p, err := q.f.bytes(104, 1, 100, "the header")
		if err != nil {
			return 0, err
		}
		kind = p[0]
	}
	switch {
	case kind == 1 && need&compressionFeature != 0:
		q.method = zstded
	case kind != 0 || need&compressionFeature != 0:
		return 0, q.f.bad(104, "it is compressed in a way (%d) that is not known", kind)
	}
	return length, nil
}

// extensions reads what follows the header: which backing file there is, and its format.
func (q *qcow2) extensions(at int64, name uint64, length uint32) error {
	end := q.cluster
	if name != 0 {
		if name > uint64(q.cluster) || uint64(length) > uint64(q.cluster)-name { // #nosec G115 -- a power of two
			return q.f.bad(8, "the name of the backing file is outside of the first cluster")
		}
		if length == 0 || length > 1023 {
			return q.f.bad(16, "the name of the backing file has %d bytes, of at most 1023", length)
		}
		p, err := q.f.bytes(int64(name), int(length), 8, "the name of the backing file")
		if err != nil {
			return err
		}
		q.nested.name, q.nested.said = string(p), int64(name)
		end = int64(name)
	}
	for at+8 <= end && at+8 <= q.f.size {
		h, err := q.f.bytes(at, 8, at, "a header extension")
		if err != nil {
			return err
		}
		kind, length := binary.BigEndian.Uint32(h), int64(binary.BigEndian.Uint32(h[4:]))
		if kind == 0 {
			break
		}
		if length > end-at-8 {
			return q.f.bad(at+4, "a header extension has %d bytes, more than there is room for", length)
		}
		if kind == 0xe2792aca { // the format of the backing file
			if length > 64 {
				return q.f.bad(at+4, "the format of the backing file has a name of %d bytes", length)
			}
			p, err := q.f.bytes(at+8, int(length), at, "the format of the backing file")
			if err != nil {
				return err
			}
			q.nested.format = string(p)
		}
		at += 8 + (length+7)/8*8
	}
	return nil
}
