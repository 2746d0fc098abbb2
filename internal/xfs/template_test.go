package xfs

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/uuids"
	"reflinksr/scripts/tests"
)

var update = flag.Bool("update", false, "make the templates anew, by mkfs.xfs")

// logMiB are the sizes of the templates' logs: that which mkfs.xfs chooses, and of the largest, whose disks may have any
// size, what it chooses for 1 TiB.
var logMiB = map[int64]int{512: 64, 8 << 10: 64, 128 << 10: 512}

// mkfsArgs are those that a template is made with: two groups, of which the second has the log; sectors of a block, for
// disks that have no smaller ones; and what Linux 4.19 knows.
func mkfsArgs(mib int64) []string {
	return []string{"-q", "-L", "reflinksr", "-s", fmt.Sprint("size=", BlockSize), "-d", "agcount=2", "-l", fmt.Sprintf("size=%dm", logMiB[mib]),
		"-m", "crc=1,finobt=1,rmapbt=0,reflink=1,inobtcount=0,bigtime=0", "-i", "sparse=1,nrext64=0"}
}

const aUUID = "365c68ee-966a-4644-880d-1122a36ab9a1"

// madeBy is the mkfs.xfs that made the templates. Others may put things elsewhere.
const madeBy = "mkfs.xfs version 6.1.0"

// The templates are what mkfs.xfs makes of the same arguments, but for the moment, what it takes by chance, and
// checksums; with -update they are made so.
func TestTemplates(t *testing.T) {
	tool(t, "mkfs.xfs")
	if version, err := exec.Command("mkfs.xfs", "-V").Output(); err != nil || strings.TrimSpace(string(version)) != madeBy {
		tests.Skip(t, "the templates are by ", madeBy, ", and here is ", strings.TrimSpace(string(version)))
	}
	for _, mib := range templateSizes {
		file := filepath.Join(t.TempDir(), "image")
		sparse(t, file, mib<<20)
		if out, err := exec.Command("mkfs.xfs", append(mkfsArgs(mib), file)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		made := packImage(t, file)
		if *update {
			if err := os.WriteFile(templateFile(mib), made, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		id, _ := uuids.Parse(aUUID)
		want, err := unpack(made)
		if err != nil {
			t.Fatal(err)
		}
		want.SetUUID(id)
		got, err := NewImage(mib<<20, id)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Blocks) != len(want.Blocks) || got.Log != want.Log || got.Log.Length != int64(logMiB[mib])<<20 {
			t.Fatalf("%d MiB: %d blocks and the log at %v, mkfs.xfs makes %d, %v", mib, len(got.Blocks), got.Log, len(want.Blocks), want.Log)
		}
		for i := range got.Blocks {
			if got.Blocks[i].Offset != want.Blocks[i].Offset || !bytes.Equal(timeless(got.Blocks[i].Data), timeless(want.Blocks[i].Data)) {
				t.Errorf("%d MiB: block %d, at %d, is not that of mkfs.xfs", mib, i, got.Blocks[i].Offset)
			}
		}
	}
}

// timeless is a block without what is another every time: times, generations and checksums.
func timeless(block []byte) []byte {
	block = bytes.Clone(block)
	h := headers[kindOf(block)]
	for at := 0; at < len(block); at += h.piece {
		piece := block[at : at+h.piece]
		if h.sum >= 0 {
			clear(piece[h.sum : h.sum+4])
		}
		if h.piece == inodeSize {
			clear(piece[32:56])   // atime, mtime, ctime
			clear(piece[92:96])   // generation
			clear(piece[144:152]) // crtime
		}
	}
	return block
}

// packImage is a template of an image: its blocks that are not zero.
func packImage(t *testing.T, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	block := make([]byte, 8+BlockSize)
	for at, end := int64(0), int64(0); ; at += BlockSize {
		if at == end {
			if at, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA); errors.Is(err, unix.ENXIO) {
				break
			}
			if end, err = unix.Seek(int(f.Fd()), at, unix.SEEK_HOLE); err != nil {
				t.Fatal(err)
			}
		}
		binary.BigEndian.PutUint64(block, uint64(at))
		if _, err := f.ReadAt(block[8:], at); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(block[8:], make([]byte, BlockSize)) {
			z.Write(block)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// A disk of any size gets a filesystem that Linux 4.19 knows and xfs_repair has nothing to say about, over whatever was
// on it before.
func TestNewImage(t *testing.T) {
	tool(t, "xfs_repair")
	tool(t, "xfs_db")
	id, _ := uuids.Parse(aUUID)
	for _, size := range []int64{MinTemplate, 600 << 20, 8<<30 - 4096, 8 << 30, 127 << 30, 128 << 30, 16 << 40} {
		i, err := NewImage(size, id)
		if err != nil {
			t.Fatal(err)
		}
		f := ParseFeatures(i.Blocks[0].Data)
		if f != (Features{ROCompat: 0x5, Incompat: 0x3}) || len(f.After419()) > 0 {
			t.Errorf("%d: it has the features %+v: %s", size, f, Names(f.After419()))
		}
		if size > 128<<30 {
			continue // there may be no file of that size here
		}
		file := filepath.Join(t.TempDir(), "image")
		sparse(t, file, size)
		disk, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		first := i.Unfinished()
		for _, b := range append([]Block{first}, i.Blocks[1:]...) {
			if _, err := disk.WriteAt(b.Data, b.Offset); err != nil {
				t.Fatal(err)
			}
		}
		if out, _ := exec.Command("xfs_db", "-r", "-c", "sb 0", "-c", "p inprogress", file).CombinedOutput(); !strings.Contains(string(out), "inprogress = 1") {
			t.Errorf("%d: before the end it is no unfinished filesystem: %s", size, out)
		}
		if _, err := disk.WriteAt(i.Blocks[0].Data, 0); err != nil {
			t.Fatal(err)
		}
		disk.Close()
		if out, err := exec.Command("xfs_repair", "-n", file).CombinedOutput(); err != nil || strings.Contains(string(out), "would") {
			t.Errorf("%d: %v\n%s", size, err, out)
		}
		out, err := exec.Command("xfs_db", "-r", "-c", "uuid", "-c", "label", "-c", "sb 1", "-c", "p uuid", "-c", "inode 128", "-c", "p v3.uuid", file).CombinedOutput()
		if err != nil || strings.Count(string(out), aUUID) != 3 || !strings.Contains(string(out), `"reflinksr"`) {
			t.Errorf("%d: %v\n%s", size, err, out)
		}
	}
	if _, err := NewImage(MinTemplate-1, id); err == nil {
		t.Error("there is a template for a disk on which none fits")
	}
}

func tool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		tests.Skip(t, name+" is not installed")
	}
}

func sparse(t *testing.T, file string, size int64) {
	t.Helper()
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size)); err != nil {
		t.Fatal(err)
	}
}
