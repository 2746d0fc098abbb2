package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf16"
)

// tinyQcow2 is a qcow2 image of a disk of 256 KiB, of which some holds something.
func tinyQcow2(t testing.TB) []byte { return written(t, "qcow2", 256<<10) }

// written is what a writer makes of a disk of so many bytes.
func written(t testing.TB, format string, size int64) []byte {
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := NewWriter(f, format, size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte{1, 2, 3, 4}, 1024)); err != nil {
		t.Fatal(err)
	}
	if err := w.Zeros(size - 4096); err != nil {
		t.Fatal(err)
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// tinyVHD is a VHD of blocks of 4 KiB, of which those have data that are given, each sector if it is not 0 throughout. It is
// the difference to a parent if that is named, in each of three ways or in one of them.
func tinyVHD(size int, blocks map[int][]byte, id byte, parent string, parentID byte, ways ...string) []byte {
	const block = 4096
	entries := (size + block - 1) / block
	foot, header := make([]byte, 512), make([]byte, 1024)
	copy(foot, "conectix")
	copy(foot[28:], "tap\x00")
	binary.BigEndian.PutUint64(foot[16:], 512)
	binary.BigEndian.PutUint64(foot[48:], uint64(size))
	binary.BigEndian.PutUint32(foot[60:], vhdDynamic)
	foot[68] = id
	copy(header, "cxsparse")
	table := 512 + 1024 + 8*512
	binary.BigEndian.PutUint64(header[16:], uint64(table))
	binary.BigEndian.PutUint32(header[28:], uint32(entries))
	binary.BigEndian.PutUint32(header[32:], block)
	body := make([]byte, table)
	if parent != "" {
		binary.BigEndian.PutUint32(foot[60:], vhdDifferencing)
		header[40] = parentID
		for i, way := range ways {
			text := []byte("file://./" + parent)
			if way != "MacX" {
				text = nil
				for _, u := range utf16.Encode([]rune(`.\` + parent)) {
					text = binary.LittleEndian.AppendUint16(text, u)
				}
			}
			if way == "name" {
				for k, u := range utf16.Encode([]rune(parent)) {
					binary.BigEndian.PutUint16(header[64+2*k:], u)
				}
				continue
			}
			copy(header[576+24*i:], way)
			binary.BigEndian.PutUint32(header[576+24*i+8:], uint32(len(text)))
			binary.BigEndian.PutUint64(header[576+24*i+16:], uint64(1536+512*i))
			copy(body[1536+512*i:], text)
		}
	}
	bat := bytes.Repeat([]byte{0xff}, (4*entries+511)/512*512)
	at := table + len(bat)
	var data []byte
	for i := range entries {
		if blocks[i] == nil {
			continue
		}
		binary.BigEndian.PutUint32(bat[4*i:], uint32((at+len(data))/512))
		bitmap, whole := make([]byte, 512), make([]byte, block)
		copy(whole, blocks[i])
		for s := range block / 512 {
			if !isZero(whole[512*s : 512*s+512]) {
				bitmap[0] |= 0x80 >> s
			}
		}
		data = append(append(data, bitmap...), whole...)
	}
	copy(body[512:], header)
	all := append(append(append(body, bat...), data...), foot...)
	copy(all, foot)
	return summedUp(all)
}

// summedUp puts right checksums where a VHD has them, so that what else is wrong is looked at.
func summedUp(all []byte) []byte {
	foots := []int{0, len(all) - 512}
	for _, at := range foots {
		if at >= 0 && at+512 <= len(all) && string(all[at:at+8]) == "conectix" {
			binary.BigEndian.PutUint32(all[at+64:], vhdSum(all[at:at+512], 64))
			if h := binary.BigEndian.Uint64(all[at+16:]); h < uint64(len(all)) && len(all)-int(h) >= 1024 && int(h) >= 512 && int(h)+1024 <= len(all)-512 {
				binary.BigEndian.PutUint32(all[h+36:], vhdSum(all[h:h+1024], 36))
			}
		}
	}
	return all
}

// tinyVMDK is a sparse VMDK of grains of 4 KiB, with its description inside.
func tinyVMDK() []byte {
	all := make([]byte, 8*512)
	copy(all, magicVMDK)
	for at, v := range map[int]uint32{4: 1, 8: 3, 44: 512} {
		binary.LittleEndian.PutUint32(all[at:], v)
	}
	for at, v := range map[int]uint64{12: 128, 20: 8, 28: 1, 36: 1, 56: 2, 64: 8} {
		binary.LittleEndian.PutUint64(all[at:], v)
	}
	copy(all[512:], "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\nRW 128 SPARSE \"x.vmdk\"\n")
	binary.LittleEndian.PutUint32(all[2*512:], 3)
	binary.LittleEndian.PutUint32(all[3*512+8:], 8)
	return append(all, bytes.Repeat([]byte("a grain "), 512)...)
}

// inMemory reads an image that is no file; what it names is what others has.
func inMemory(all []byte, o Options, others map[string][]byte) (*Image, error) {
	open := func(_ *file, name string) (*file, error) {
		data, is := others[filepath.Clean(name)]
		if !is && !local(name) {
			return nil, errOutside
		}
		if !is {
			return nil, os.ErrNotExist
		}
		return memoryFile("/images/"+name, data), nil
	}
	return read(context.Background(), memoryFile("/images/image", all), o, open)
}

func memoryFile(path string, all []byte) *file {
	return &file{ReaderAt: bytes.NewReader(all), name: path, path: path, id: path, size: int64(len(all)), close: func() error { return nil }}
}

// wholeDisk is all of a disk.
type wholeDisk struct{ bytes.Buffer }

func (w *wholeDisk) Zeros(n int64) error { _, err := w.Write(make([]byte, n)); return err }
func (w *wholeDisk) End() error          { return nil }

func readWhole(m *Image) ([]byte, error) {
	w := &wholeDisk{}
	err := m.CopyTo(context.Background(), w, func(int64, int64) {})
	return w.Bytes(), err
}

var _ io.ReaderAt = (*Image)(nil)
