package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"reflinksr/internal/fault"
)

// Whatever cannot be right is refused in one line that names the file, the place and the reason: when the image is opened, or where
// it is read.
func TestHostile(t *testing.T) {
	qcow2, vmdk := tinyQcow2(t), tinyVMDK()
	vhd := tinyVHD(64<<10, map[int][]byte{3: bytes.Repeat([]byte{9}, 4096)}, 1, "", 0)
	child := tinyVHD(64<<10, map[int][]byte{4: bytes.Repeat([]byte{8}, 600)}, 2, "parent.vhd", 1, "W2ru")
	l1 := binary.BigEndian.Uint64(qcow2[40:])
	l2 := binary.BigEndian.Uint64(qcow2[l1:]) & offsetMask
	put32 := func(at uint64, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint32(b[at:], v); return b }
	}
	put64 := func(at, v uint64) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint64(b[at:], v); return b }
	}
	little := func(at uint64, v uint64, bytes int) func([]byte) []byte {
		return func(b []byte) []byte {
			if bytes == 4 {
				binary.LittleEndian.PutUint32(b[at:], uint32(v))
			} else {
				binary.LittleEndian.PutUint64(b[at:], v)
			}
			return b
		}
	}
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }
	backing := func(name, format string) func([]byte) []byte {
		return func(b []byte) []byte {
			at := 104
			if format != "" {
				binary.BigEndian.PutUint32(b[at:], 0xe2792aca)
				binary.BigEndian.PutUint32(b[at+4:], uint32(len(format)))
				copy(b[at+8:], format)
				at += 8 + (len(format)+7)/8*8
			}
			binary.BigEndian.PutUint64(b[8:], uint64(at+8))
			binary.BigEndian.PutUint32(b[16:], uint32(len(name)))
			copy(b[at+8:], name)
			return b
		}
	}
	text := func(from, to string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Replace(b, []byte(from), []byte(to), 1) }
	}
	for i, c := range []struct {
		format string
		of     []byte
		change func([]byte) []byte
		want   string
	}{
		{"qcow2", qcow2, cut(20), "at byte 0, the header ends at byte 72, and the file at 20"},
		{"qcow2", qcow2, cut(0), "the file at 0"},
		{"qcow2", qcow2, put32(0, 7), "does not begin as a qcow2 image"},
		{"qcow2", qcow2, put32(4, 4), "at byte 4, it is of version 4"},
		{"qcow2", qcow2, put32(20, 8), "at byte 20, clusters of 2^8 bytes are none"},
		{"qcow2", qcow2, put32(20, 22), "2^22"},
		{"qcow2", qcow2, put32(20, 0xffffffff), "2^4294967295"},
		{"qcow2", qcow2, put64(24, 1<<63), "at byte 24, the disk has 9223372036854775808 bytes"},
		{"qcow2", qcow2, put64(24, 1<<60+1), "at byte 24, the disk has"},
		{"qcow2", qcow2, put64(24, 1<<60), "at byte 36, the table of level 1 has 1 entries, and a disk of"},
		{"qcow2", qcow2, put64(24, 0), "the disk is empty"},
		{"qcow2", qcow2, put32(32, 1), "at byte 32, it is encrypted"},
		{"qcow2", qcow2, put32(32, 2), "encrypted"},
		{"qcow2", qcow2, put32(36, 0), "has 0 entries"},
		{"qcow2", qcow2, put32(36, 0xffffffff), "of at most 4194304"},
		{"qcow2", qcow2, put64(40, 512), "where no cluster begins"},
		{"qcow2", qcow2, put64(40, 1<<40), "and the file has"},
		{"qcow2", qcow2, put64(40, 1<<63), "where no cluster begins"},
		{"qcow2", qcow2, put64(72, corruptFeature), "corrupt: qemu-img check"},
		{"qcow2", qcow2, put64(72, externalFeature), "in another file"},
		{"qcow2", qcow2, put64(72, 1<<41), "feature of bit 41, which is not known"},
		{"qcow2", qcow2, put64(72, compressionFeature), "at byte 104, it is compressed in a way (0)"},
		{"qcow2", qcow2, put32(100, 72), "at byte 100, the header has 72 bytes"},
		{"qcow2", qcow2, put32(100, 1<<20), "at byte 100, the header has"},
		{"qcow2", qcow2, put64(8, 1<<40), "at byte 8, the name of the backing file is outside"},
		{"qcow2", qcow2, func(b []byte) []byte { return put32(16, 0xffffffff)(put64(8, 200)(b)) }, "the name of the backing file is outside"},
		{"qcow2", qcow2, func(b []byte) []byte { return put32(16, 2000)(put64(8, 200)(b)) }, "of at most 1023"},
		{"qcow2", qcow2, func(b []byte) []byte { return put32(108, 70000)(put32(104, 1)(b)) }, "a header extension has 70000 bytes"},
		{"qcow2", qcow2, backing("base", ""), "does not say of which format that is"},
		{"qcow2", qcow2, backing("base", "luks"), `of the format "luks"`},
		{"qcow2", qcow2, backing("json:{}", "raw"), "which is no path of a file"},
		{"qcow2", qcow2, backing("nbd://host/x", "raw"), "which is no path of a file"},
		{"qcow2", qcow2, backing("none", "raw"), "its backing file, which cannot be opened"},
		{"qcow2", qcow2, backing("../../none", "raw"), `its backing file is "../../none": that is not in its directory`},
		{"qcow2", qcow2, backing("a/../b", "raw"), "say --follow"},
		{"qcow2", qcow2, backing("image", "qcow2"), "it has no end"},
		{"qcow2", qcow2, backing("a\x1b[31m", "raw\x1b[31m"), `\x1b[31m`},
		{"qcow2", qcow2, put64(l1, 0x1200), "where no cluster begins"},
		{"qcow2", qcow2, put64(l1, 1<<50), "behind the end of the file"},
		{"qcow2", qcow2, put64(l2, 0x1200), "where no cluster begins"},
		{"qcow2", qcow2, put64(l2, 1<<50), fmt.Sprintf("at byte %d, the table of level 2 has data at byte %d, behind the end", l2, uint64(1)<<50)},
		{"qcow2", qcow2, put64(l2, packedFlag|1<<50), "a compressed cluster at byte"},
		{"qcow2", qcow2, put64(l2, packedFlag|uint64(l1)), "cannot be unpacked to 65536"},
		{"qcow2", qcow2, func(b []byte) []byte { return put64(l2, 1)(put32(4, 2)(b)) }, "which version 2 of the format has not"},
		{"vhd", vhd, cut(300), "no VHD footer"},
		{"vhd", vhd, func(b []byte) []byte { b[70], b[len(b)-400] = 99, 98; return b }, "no VHD footer with a right checksum"},
		{"vhd", vhd, func(b []byte) []byte { return summedUp(put32(uint64(len(b))-512+60, 7)(b)) }, "a VHD of type 7"},
		{"vhd", vhd, func(b []byte) []byte { return summedUp(put64(uint64(len(b))-512+48, 1<<63)(b)) }, "the disk has 9223372036854775808 bytes"},
		{"vhd", vhd, func(b []byte) []byte { return summedUp(put64(uint64(len(b))-512+48, 1<<40)(b)) }, "the table of blocks has 16 entries"},
		{"vhd", vhd, func(b []byte) []byte { return summedUp(put64(uint64(len(b))-512+16, 1<<63)(b)) }, "the header of a dynamic disk ends at byte 9223372036854776832"},
		{"vhd", vhd, func(b []byte) []byte {
			return summedUp(put32(uint64(len(b))-512+60, vhdFixed)(put64(uint64(len(b))-512+48, 1<<40)(b)))
		}, "the file is truncated"},
		{"vhd", vhd, func(b []byte) []byte { b[512+1000] = 1; return b }, "at byte 548, the checksum of the header"},
		{"vhd", vhd, func(b []byte) []byte { return summedUp(put32(512+32, 100)(b)) }, "blocks of 100 bytes are none"},
		{"vhd", vhd, func(b []byte) []byte { return summedUp(put32(512+32, 1<<31)(b)) }, "blocks of 2147483648 bytes are none"},
		{"vhd", vhd, func(b []byte) []byte { return summedUp(put64(512+16, 1<<63)(b)) }, "the table of blocks is at byte 9223372036854775808"},
		{"vhd", vhd, put32(512+1024+8*512+4, 1<<30), "at byte 5636, the table of blocks has block 1 at byte"},
		{"vhd", vhd, put32(512+1024+8*512, 0), "the table of blocks has block 0 at byte 0"},
		{"vhd", child, func(b []byte) []byte { return b }, "its parent, which cannot be opened"},
		{"vhd", child, func(b []byte) []byte { return summedUp(put32(512+576+8, 1<<30)(b)) }, "the name of the parent has 1073741824 bytes"},
		{"vhd", child, func(b []byte) []byte { return summedUp(put32(512+576, 0)(b)) }, "does not say which"},
		{"vmdk", vmdk, cut(100), "the header ends"},
		{"vmdk", vmdk, little(4, 9, 4), "it is of version 9"},
		{"vmdk", vmdk, little(12, 1<<60, 8), "at byte 12, the disk has 1152921504606846976 sectors"},
		{"vmdk", vmdk, little(20, 0, 8), "grains of 0 sectors"},
		{"vmdk", vmdk, little(20, 1<<40, 8), "at byte 20, grains of"},
		{"vmdk", vmdk, little(44, 0, 4), "grain tables of 0 entries"},
		{"vmdk", vmdk, little(44, 0xffffffff, 4), "grain tables of 4294967295 entries"},
		{"vmdk", vmdk, little(8, vmdkCompressed, 4), "compressed in a way (0)"},
		{"vmdk", vmdk, little(56, 1<<62, 8), "the grain directory is at sector"},
		{"vmdk", vmdk, little(56, 1<<30, 8), "the grain directory is at byte"},
		{"vmdk", vmdk, little(56, vmdkAtEnd, 8), "no header of a sparse VMDK"},
		{"vmdk", vmdk, little(36, 1<<40, 8), "where none can be"},
		{"vmdk", vmdk, little(1024, 0xffffffff, 4), "a table names sector 4294967295"},
		{"vmdk", vmdk, little(3*512, 0xffffff, 4), "a table names sector 16777215"},
		{"vmdk", vmdk, text("ffffffff", "12345678"), "the difference to another VMDK"},
		{"vmdk", vmdk, text("RW 128", "RW 1x8"), "of a size that none has"},
		{"vmdk", vmdk, text("RW ", "RR "), "no part of a disk"},
		{"vmdk", []byte("# Disk DescriptorFile\nRW 1 FLAT \"../../etc/shadow\" 0\n"), func(b []byte) []byte { return b }, `a part of the disk is "../../etc/shadow": that is not in its directory`},
		{"vmdk", []byte("# Disk DescriptorFile\nRW 1 VMFSSPARSE \"x\"\n"), func(b []byte) []byte { return b }, `of the kind "VMFSSPARSE"`},
		{"vmdk", []byte("# Disk DescriptorFile\nRW 99999999999999999999 ZERO\n"), func(b []byte) []byte { return b }, "of a size that none has"},
		{"vmdk", []byte("# Disk DescriptorFile\nRW 1 FLAT \"image\" 0\n"), func(b []byte) []byte { return b }, "it has no end"},
		{"vmdk", []byte(strings.Repeat("# Disk DescriptorFile\nRW 1 ZERO\n", 2000)), func(b []byte) []byte { return b }, "made of more than 1024 parts"},
		{"vmdk", []byte("hello"), func(b []byte) []byte { return b }, "neither as a sparse VMDK"},
		{"hds", vmdk, func(b []byte) []byte { return b }, `"hds" is no format that can be read: raw, qcow2, vhd, vmdk are`},
		{"raw", nil, func(b []byte) []byte { return b }, "the disk is empty"},
	} {
		all := c.change(bytes.Clone(c.of))
		m, err := inMemory(all, Options{Format: c.format}, map[string][]byte{"image": all})
		if err == nil {
			_, err = readWhole(m)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%d: %v, want %q", i, err, c.want)
		}
		if !errors.Is(err, fault.ErrInvalid) && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%d: of no class: %v", i, err)
		}
	}
}

// However short a file is cut, it is refused, or what it holds is what it held.
func TestTruncated(t *testing.T) {
	for format, all := range map[string][]byte{"qcow2": tinyQcow2(t), "vhd": tinyVHD(64<<10, map[int][]byte{3: bytes.Repeat([]byte{9}, 4096)}, 1, "", 0), "vmdk": tinyVMDK()} {
		m, err := inMemory(all, Options{Format: format}, nil)
		if err != nil {
			t.Fatal(format, err)
		}
		want, err := readWhole(m)
		if err != nil || isZero(want) {
			t.Fatal(format, err)
		}
		refused := 0
		for n := 0; n < len(all); n += 256 {
			m, err := inMemory(all[:n], Options{Format: format}, nil)
			if err == nil {
				_, err = readWhole(m)
			}
			if err != nil {
				refused++
				if !errors.Is(err, fault.ErrInvalid) {
					t.Errorf("%s of %d bytes: %v", format, n, err)
				}
			}
		}
		if refused < 8 {
			t.Errorf("%s was refused %d times", format, refused)
		}
	}
}

// A differencing VHD holds what it has of its own, sector by sector, and else what its parents have; whichever way it names them.
func TestParents(t *testing.T) {
	fill := func(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }
	base := tinyVHD(64<<10, map[int][]byte{0: fill(1, 4096), 3: fill(1, 4096), 5: fill(1, 1024)}, 1, "", 0)
	want := make([]byte, 64<<10)
	copy(want, fill(1, 4096))
	copy(want[3*4096:], fill(1, 4096))
	copy(want[5*4096:], fill(1, 1024))
	copy(want[3*4096:], fill(2, 1024))
	copy(want[7*4096:], fill(2, 4096))
	copy(want[3*4096:], fill(3, 512))
	for _, ways := range [][]string{{"W2ru"}, {"W2ku"}, {"MacX"}, {"name"}, {"W2ru", "MacX", "name"}} {
		files := map[string][]byte{
			"base.vhd": base,
			"mid.vhd":  tinyVHD(64<<10, map[int][]byte{3: fill(2, 1024), 7: fill(2, 4096)}, 2, "base.vhd", 1, ways...),
		}
		top := tinyVHD(64<<10, map[int][]byte{3: fill(3, 512)}, 3, "mid.vhd", 2, ways...)
		m, err := inMemory(top, Options{Format: "vhd"}, files)
		if err != nil {
			t.Fatal(ways, err)
		}
		if got, err := readWhole(m); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: it holds something else, %v", ways, err)
		}
		// One that has another identity is no parent, nor is the image itself.
		files["base.vhd"] = tinyVHD(64<<10, nil, 77, "", 0)
		if _, err := inMemory(top, Options{Format: "vhd"}, files); err == nil || !strings.Contains(err.Error(), "base.vhd cannot be read as an image: at byte") || !strings.Contains(err.Error(), "identity 4d000000-") {
			t.Errorf("another parent: %v", err)
		}
		files["base.vhd"] = tinyVHD(64<<10, nil, 1, "mid.vhd", 2, ways...)
		if _, err := inMemory(top, Options{Format: "vhd"}, files); err == nil || !strings.Contains(err.Error(), "it has no end") {
			t.Errorf("a circle: %v", err)
		}
	}
}

// A chain is read as far as it goes, up to a length; and takes little memory.
func TestChains(t *testing.T) {
	overlay := func(below string) []byte {
		b := tinyQcow2(t)[:0]
		b = append(b, make([]byte, 512)...)
		copy(b, magicQcow2)
		for at, v := range map[int]uint32{4: 3, 16: uint32(len(below)), 20: 9, 36: 8, 96: 4, 100: 104, 104: 0xe2792aca, 108: 5} {
			binary.BigEndian.PutUint32(b[at:], v)
		}
		for at, v := range map[int]uint64{8: 128, 24: 256 << 10, 40: 512} {
			binary.BigEndian.PutUint64(b[at:], v)
		}
		copy(b[112:], "qcow2")
		copy(b[128:], below)
		return append(b, make([]byte, 512)...)
	}
	files := map[string][]byte{"0": tinyQcow2(t)}
	for i := 1; i <= longest; i++ {
		files[fmt.Sprint(i)] = overlay(fmt.Sprint(i - 1))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m, err := inMemory(overlay(fmt.Sprint(longest-2)), Options{Format: "qcow2"}, files)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readWhole(m)
	if err != nil || !bytes.Equal(got[:4], []byte{1, 2, 3, 4}) || !isZero(got[4096:]) {
		t.Errorf("it holds something else, %v", err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if more := int64(after.HeapAlloc) - int64(before.HeapAlloc); more > 32<<20 {
		t.Errorf("%d files take %d bytes of memory", longest, more)
	}
	if _, err := inMemory(overlay(fmt.Sprint(longest)), Options{Format: "qcow2"}, files); err == nil || !strings.Contains(err.Error(), "more than 256 files one below the other") {
		t.Errorf("a chain of more: %v", err)
	}
	runtime.KeepAlive(m)
}

// What only its contents say to be an image names no files: a guest could have written them to a raw disk.
func TestGuessed(t *testing.T) {
	dir := t.TempDir()
	b := tinyQcow2(t)
	binary.BigEndian.PutUint32(b[104:], 0xe2792aca)
	binary.BigEndian.PutUint32(b[108:], 3)
	copy(b[112:], "raw")
	secret := filepath.Join(dir, "secret")
	binary.BigEndian.PutUint64(b[8:], 200)
	binary.BigEndian.PutUint32(b[16:], uint32(len("secret")))
	copy(b[200:], "secret")
	os.WriteFile(secret, bytes.Repeat([]byte("secret! "), 64), 0o600)
	for name, format := range map[string]string{"disk.raw": "", "disk": "", "disk.img": "", "disk.vhd": ""} {
		os.WriteFile(filepath.Join(dir, name), b, 0o600)
		_, err := Open(t.Context(), filepath.Join(dir, name), Options{Format: format})
		if err == nil || !strings.Contains(err.Error(), "only its contents say") || !strings.Contains(fault.HintOf(err)+err.Error(), "--format qcow2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	os.WriteFile(filepath.Join(dir, "disk.qcow2"), b, 0o600)
	refused := errors.New("not this one")
	may := func(f *os.File) error {
		if filepath.Base(f.Name()) == "secret" {
			return refused
		}
		return nil
	}
	if _, err := Open(t.Context(), filepath.Join(dir, "disk.qcow2"), Options{MayRead: may}); !errors.Is(err, refused) {
		t.Errorf("what may not be read: %v", err)
	}
	m, err := Open(t.Context(), filepath.Join(dir, "disk.raw"), Options{Format: "qcow2"})
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if _, err := OpenAt(bytes.NewReader(b), int64(len(b)), "standard input", Options{}); err == nil || !strings.Contains(err.Error(), "what comes from a pipe can name no files") {
		t.Errorf("from a pipe: %v", err)
	}
	os.Remove(secret)
	if err := os.Mkdir(secret, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), filepath.Join(dir, "disk.qcow2"), Options{}); err == nil || !strings.Contains(err.Error(), "is no regular file") {
		t.Errorf("a directory: %v", err)
	}
}
