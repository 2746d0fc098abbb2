package image

import (
	"crypto/rand"
	"encoding/binary"
	"os"

	"reflinksr/internal/fault"
)

// vhdWriter writes a dynamic VHD. Blocks have their places in the order in which they come, so that their data begin at a whole
// page; the copy of the footer is written last: what is not finished is no image.
type vhdWriter struct {
	f     *appended
	disk  int64
	at    int64  // of the disk
	next  int64  // the next free place in the file
	here  int64  // the block of the disk that came last
	host  int64  // where its data begin: 0 if it is not in the file
	table []byte // of blocks
	batch batch
}

const (
	vhdBlock   = 2 << 20                   // bytes
	vhdBitmap  = vhdBlock / sectorSize / 8 // bytes
	vhdTable   = 1536                      // where the table of blocks is: after the copy of the footer and the header
	vhdLargest = 2040 << 30                // bytes
)

func newVHDWriter(f *os.File, size int64) (*vhdWriter, error) {
	if size > vhdLargest {
		return nil, fault.Hint(fault.Errorf(fault.ErrSize, "size", "a disk of %d bytes does not fit into a VHD, which has at most %d", size, int64(vhdLargest)), "export it as qcow2 or raw")
	}
	entries := (size + vhdBlock - 1) / vhdBlock
	to := &appended{File: f}
	w := &vhdWriter{f: to, disk: size, here: -1, table: make([]byte, (4*entries+511)/512*512), batch: batch{f: to}}
	for i := range w.table {
		w.table[i] = 0xff
	}
	w.next = vhdTable + int64(len(w.table))
	return w, nil
}

func (w *vhdWriter) Write(p []byte) (int, error) {
	from := 0
	err := pieces(p, w.at, vhdBlock, func(piece []byte, at int64, zero bool) error {
		begin := from
		from += len(piece)
		if block := at / vhdBlock; block != w.here {
			w.here, w.host = block, 0
		}
		w.at = at + int64(len(piece))
		if zero { // of a block that is there it is a hole
			return nil
		}
		if w.host == 0 {
			if err := w.place(); err != nil {
				return err
			}
		}
		return w.batch.add(p, begin, from, w.host+at%vhdBlock)
	})
	if err == nil {
		err = w.batch.flush() // p is the caller's
	}
	return from, err
}

// place gives a block its place, with all of its sectors there.
func (w *vhdWriter) place() error {
	if err := w.batch.flush(); err != nil {
		return err
	}
	bitmap := make([]byte, vhdBitmap)
	for i := range bitmap {
		bitmap[i] = 0xff
	}
	w.host = (w.next + vhdBitmap + pageSize - 1) / pageSize * pageSize
	w.next = w.host + vhdBlock
	if _, err := w.f.WriteAt(bitmap, w.host-vhdBitmap); err != nil {
		return err
	}
	binary.BigEndian.PutUint32(w.table[4*w.here:], uint32((w.host-vhdBitmap)/sectorSize)) // #nosec G115 -- of 2 TiB at most
	return nil
}

func (w *vhdWriter) Zeros(n int64) error {
	w.at += n
	return nil
}

func (w *vhdWriter) End() error {
	if err := whole(w.at, w.disk); err != nil {
		return err
	}
	foot, err := w.footer()
	if err != nil {
		return err
	}
	header := make([]byte, 1024)
	copy(header, "cxsparse")
	binary.BigEndian.PutUint64(header[8:], ^uint64(0))
	binary.BigEndian.PutUint64(header[16:], vhdTable)
	binary.BigEndian.PutUint32(header[24:], 0x00010000)
	binary.BigEndian.PutUint32(header[28:], uint32((w.disk+vhdBlock-1)/vhdBlock)) // #nosec G115 -- of 2 TiB at most
	binary.BigEndian.PutUint32(header[32:], vhdBlock)
	binary.BigEndian.PutUint32(header[36:], vhdSum(header, 36))
	for _, part := range []struct {
		p  []byte
		at int64
	}{{header, vhdFooter}, {w.table, vhdTable}, {foot, w.next}} {
		if _, err := w.f.File.WriteAt(part.p, part.at); err != nil {
			return err
		}
	}
	if err := w.f.Sync(); err != nil { // the copy of the footer says that all of it is there
		return err
	}
	if _, err := w.f.File.WriteAt(foot, 0); err != nil {
		return err
	}
	return w.f.Sync()
}

// footer calls the writer tap, as XenServer's own does, of which all readers take the size as it is: of others some take what the
// geometry comes to.
func (w *vhdWriter) footer() ([]byte, error) {
	p := make([]byte, vhdFooter)
	copy(p, "conectix")
	copy(p[28:], "tap\x00")
	cylinders, heads, sectors := geometry(w.disk / sectorSize)
	binary.BigEndian.PutUint32(p[8:], 2)
	binary.BigEndian.PutUint32(p[12:], 0x00010000)
	binary.BigEndian.PutUint64(p[16:], vhdFooter)
	binary.BigEndian.PutUint32(p[32:], 0x00010003)
	binary.BigEndian.PutUint64(p[40:], uint64(w.disk)) // #nosec G115 -- not negative
	binary.BigEndian.PutUint64(p[48:], uint64(w.disk)) // #nosec G115 -- not negative
	binary.BigEndian.PutUint16(p[56:], cylinders)
	p[58], p[59] = heads, sectors
	binary.BigEndian.PutUint32(p[60:], vhdDynamic)
	if _, err := rand.Read(p[68:84]); err != nil {
		return nil, err
	}
	p[74], p[76] = p[74]&0x0f|0x40, p[76]&0x3f|0x80 // a random UUID
	binary.BigEndian.PutUint32(p[64:], vhdSum(p, 64))
	return p, nil
}

// geometry is what the format's specification makes of a number of sectors.
func geometry(all int64) (cylinders uint16, heads, sectors uint8) {
	all = min(all, 65535*16*255)
	track, head := int64(17), int64(0)
	if all >= 65535*16*63 {
		track, head = 255, 16
	} else {
		head = max(4, (all/track+1023)/1024)
		if all/track >= head*1024 || head > 16 {
			track, head = 31, 16
		}
		if all/track >= head*1024 {
			track, head = 63, 16
		}
	}
	return uint16(all / track / head), uint8(head), uint8(track) // #nosec G115 -- that is what the format has
}
