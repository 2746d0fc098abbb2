package image

import (
	"encoding/binary"
	"os"

	"reflinksr/internal/fault"
)

// qcow2Writer writes a qcow2 image of version 3. Clusters have their places in the order in which they come, the tables after what
// they are about, the header last: what is not finished is no image.
type qcow2Writer struct {
	f       *appended
	disk    int64
	bits    uint
	cluster int64
	at      int64    // of the disk
	next    int64    // the next free place in the file
	here    int64    // the cluster of the disk that came last, of which the rest goes to
	host    int64    // this place: 0 if it is not in the file
	l1      []uint64 // the tables of the second level that are written
	l2      []byte   // the table that is not
	used    bool     // it names something
	batch   batch
	over    string // the image that this one is laid over, by the name of its file; "": none
}

// zeroCluster says of an entry that the cluster reads as zeros, whatever is below.
const zeroCluster = 1

// NewQcow2Over makes a qcow2 image of what has changed since another, which is qcow2 as well and is beside it under the name over. To that sink Zeros says
// that nothing has changed; changes are written by whole clusters of ClusterSize bytes, but for the last.
func NewQcow2Over(f *os.File, size int64, over string) (Sink, error) {
	if len(over) > 1023 {
		return nil, fault.Errorf(fault.ErrInvalid, over, "%q is too long a name for what an image is laid over", fault.Shorten(over))
	}
	w, err := newQcow2Writer(f, size)
	if err != nil {
		return nil, err
	}
	if w.cluster != ClusterSize {
		return nil, fault.Errorf(fault.ErrSize, "size", "changes of a disk of %d bytes cannot be written, of at most %d", size, int64(1<<47))
	}
	w.over = over
	return w, nil
}

// ClusterSize is that of a qcow2 image of changes, in bytes.
const ClusterSize = 64 << 10

// copied says of an entry that nothing else refers to the cluster.
const copied = 1 << 63

func newQcow2Writer(f *os.File, size int64) (*qcow2Writer, error) {
	to := &appended{File: f}
	w := &qcow2Writer{f: to, disk: size, bits: 16, batch: batch{f: to}, here: -1}
	if size > 1<<47 { // a table of the first level has 32 MiB at most, and is kept in memory
		w.bits = 21
	}
	w.cluster = 1 << w.bits
	if size > 1<<59 {
		return nil, fault.Errorf(fault.ErrSize, "size", "a qcow2 image of %d bytes cannot be written, of at most %d", size, int64(1<<59))
	}
	w.next, w.l2 = w.cluster, make([]byte, w.cluster)
	return w, nil
}

// covers is how many bytes of the disk a table of the second level is about.
func (w *qcow2Writer) covers() int64 { return w.cluster / 8 * w.cluster }

func (w *qcow2Writer) Write(p []byte) (int, error) {
	from := 0
	err := pieces(p, w.at, w.cluster, func(piece []byte, at int64, zero bool) error {
		begin := from
		from += len(piece)
		w.at = at
		if err := w.table(); err != nil {
			return err
		}
		if cluster := at / w.cluster; cluster != w.here {
			w.here, w.host = cluster, 0
		}
		w.at += int64(len(piece))
		if zero && w.over != "" && w.host == 0 {
			w.l2[w.here%(w.cluster/8)*8+7], w.used = zeroCluster, true
		}
		if zero { // of a cluster that is there it is a hole
			return nil
		}
		if w.host == 0 {
			w.host, w.next, w.used = w.next, w.next+w.cluster, true
			binary.BigEndian.PutUint64(w.l2[w.here%(w.cluster/8)*8:], uint64(w.host)|copied) // #nosec G115 -- not negative
		}
		return w.batch.add(p, begin, from, w.host+at%w.cluster)
	})
	if err == nil {
		err = w.batch.flush() // p is the caller's
	}
	return from, err
}

// table writes the tables that are about what comes before the place in the disk.
func (w *qcow2Writer) table() error {
	for int64(len(w.l1)) < w.at/w.covers() {
		if !w.used {
			w.l1 = append(w.l1, 0)
			continue
		}
		if err := w.batch.flush(); err != nil {
			return err
		}
		if _, err := w.f.WriteAt(w.l2, w.next); err != nil {
			return err
		}
		w.l1 = append(w.l1, uint64(w.next)|copied) // #nosec G115 -- not negative
		w.next, w.used = w.next+w.cluster, false
		clear(w.l2)
	}
	return nil
}

func (w *qcow2Writer) Zeros(n int64) error {
	w.at += n
	return w.table()
}

func (w *qcow2Writer) End() error {
	if err := whole(w.at, w.disk); err != nil {
		return err
	}
	w.at = (w.disk + w.covers() - 1) / w.covers() * w.covers()
	if err := w.table(); err != nil {
		return err
	}
	first := make([]byte, max(w.cluster, w.up(int64(len(w.l1))*8)))
	for i, e := range w.l1 {
		binary.BigEndian.PutUint64(first[8*i:], e)
	}
	l1 := w.next
	if _, err := w.f.WriteAt(first, l1); err != nil {
		return err
	}
	w.next += int64(len(first))
	table, clusters, err := w.counts()
	if err != nil {
		return err
	}
	if err := w.f.Truncate(w.next); err != nil { // the last cluster may end in a hole
		return err
	}
	if err := w.f.Sync(); err != nil { // the header says that all of it is there
		return err
	}
	if _, err := w.f.File.WriteAt(w.header(l1, table, clusters), 0); err != nil {
		return err
	}
	return w.f.Sync()
}

func (w *qcow2Writer) up(n int64) int64 { return (n + w.cluster - 1) / w.cluster * w.cluster }

// counts writes that everything in the file is referred to once, and says where the table of that is, and of how many clusters.
func (w *qcow2Writer) counts() (table, clusters int64, err error) {
	each := w.cluster / 2 // counts of 16 bits in a block
	used := w.next / w.cluster
	blocks, tables := int64(0), int64(0)
	for {
		all := used + blocks + tables
		b := (all + each - 1) / each
		t := (b*8 + w.cluster - 1) / w.cluster
		if b == blocks && t == tables {
			break
		}
		blocks, tables = b, t
	}
	all := used + blocks + tables
	list, block := make([]byte, tables*w.cluster), make([]byte, w.cluster)
	for i := range blocks {
		for k := range each {
			count := uint16(0)
			if i*each+k < all {
				count = 1
			}
			binary.BigEndian.PutUint16(block[2*k:], count)
		}
		if _, err := w.f.WriteAt(block, w.next); err != nil {
			return 0, 0, err
		}
		binary.BigEndian.PutUint64(list[8*i:], uint64(w.next)) // #nosec G115 -- not negative
		w.next += w.cluster
	}
	table = w.next
	w.next += int64(len(list))
	_, err = w.f.WriteAt(list, table)
	return table, tables, err
}

func (w *qcow2Writer) header(l1, table, clusters int64) []byte {
	h := make([]byte, 112)
	copy(h, magicQcow2)
	for at, value := range map[int]uint32{4: 3, 20: uint32(w.bits), 36: uint32(len(w.l1)), 56: uint32(clusters), 96: 4, 100: 104} { // #nosec G115 -- small
		binary.BigEndian.PutUint32(h[at:], value)
	}
	for at, value := range map[int]int64{24: w.disk, 40: l1, 48: table} {
		binary.BigEndian.PutUint64(h[at:], uint64(value)) // #nosec G115 -- not negative
	}
	if w.over == "" {
		return h // what follows at 104 is the end of the extensions
	}
	h = binary.BigEndian.AppendUint32(h[:104], 0xe2792aca) // the extension that names the format of what is below
	h = append(binary.BigEndian.AppendUint32(h, 5), "qcow2\x00\x00\x00"...)
	h = append(h, make([]byte, 8)...)
	binary.BigEndian.PutUint64(h[8:], uint64(len(h)))
	binary.BigEndian.PutUint32(h[16:], uint32(len(w.over))) // #nosec G115 -- as above
	return append(h, w.over...)
}
