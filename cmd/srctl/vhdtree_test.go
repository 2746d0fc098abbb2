package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// What an EXT SR has is made here from scratch, and not by what reads it: VHDs by the specification, and beside them what each disk
// must hold, as the sum of what was written.

// treeFile is a VHD that is to be made.
type treeFile struct {
	uuid   string
	parent *treeFile
	size   int    // bytes
	hidden bool   // as vhd-util marks base copies
	fixed  bool   // the other kind of a root
	holds  []byte // the whole disk, as a guest sees it
	own    []bool // sectors that the file itself has

	snapshotOf string // as the database has it
	name       string
}

const sector = 512

// grow makes a VHD of another, or of nothing.
func grow(parent *treeFile, uuid string, size int, hidden bool) *treeFile {
	f := &treeFile{uuid: uuid, parent: parent, size: size, hidden: hidden, holds: make([]byte, size), own: make([]bool, size/sector)}
	if parent != nil {
		copy(f.holds, parent.holds)
	}
	return f
}

// write puts something into it, as a guest does.
func (f *treeFile) write(r *rand.Rand, at, sectors int, zeros bool) {
	for s := at; s < at+sectors && s < len(f.own); s++ {
		f.own[s] = true
		for i := range sector {
			f.holds[s*sector+i] = 0
			if !zeros {
				f.holds[s*sector+i] = byte(r.Uint32())
			}
		}
	}
}

// scribble writes here and there: single sectors, pieces of blocks, whole ones, and zeros over what was there.
func (f *treeFile) scribble(r *rand.Rand) {
	for range 6 {
		at := r.IntN(len(f.own))
		f.write(r, at, []int{1, 3, 8, 64, 300, 2000}[r.IntN(6)], false)
	}
	f.write(r, r.IntN(len(f.own)), 1+r.IntN(900), true)
	f.write(r, r.IntN(len(f.own)/8)*8, 1024, true)
}

const (
	treeBlock  = 2 << 20
	treeBitmap = 512
)

func sumOf(p []byte, at int) {
	binary.BigEndian.PutUint32(p[at:], 0)
	sum := uint32(0)
	for _, b := range p {
		sum += uint32(b)
	}
	binary.BigEndian.PutUint32(p[at:], ^sum)
}

// identity is what the footer has, which is not the name of the file.
func (f *treeFile) identity() []byte {
	id := make([]byte, 16)
	copy(id, strings.ReplaceAll(f.uuid, "-", ""))
	return id
}

func (f *treeFile) footer() []byte {
	p := make([]byte, 512)
	copy(p, "conectix")
	binary.BigEndian.PutUint32(p[8:], 2)
	binary.BigEndian.PutUint32(p[12:], 0x00010000)
	binary.BigEndian.PutUint64(p[16:], 512)
	if f.fixed {
		binary.BigEndian.PutUint64(p[16:], ^uint64(0))
	}
	binary.BigEndian.PutUint32(p[24:], 800000000)
	copy(p[28:], "tap\x00")
	binary.BigEndian.PutUint32(p[32:], 0x00010003)
	binary.BigEndian.PutUint64(p[40:], uint64(f.size))
	binary.BigEndian.PutUint64(p[48:], uint64(f.size))
	kind := uint32(3)
	switch {
	case f.fixed:
		kind = 2
	case f.parent != nil:
		kind = 4
	}
	binary.BigEndian.PutUint32(p[60:], kind)
	copy(p[68:], f.identity())
	if f.hidden {
		p[85] = 1
	}
	sumOf(p, 64)
	return p
}

// vhd is the file.
func (f *treeFile) vhd(r *rand.Rand) []byte {
	if f.fixed {
		return append(bytes.Clone(f.holds), f.footer()...)
	}
	header := make([]byte, 1024)
	copy(header, "cxsparse")
	binary.BigEndian.PutUint64(header[8:], ^uint64(0))
	entries := (f.size + treeBlock - 1) / treeBlock
	const table = 512 + 1024 + 3*512
	binary.BigEndian.PutUint64(header[16:], table)
	binary.BigEndian.PutUint32(header[24:], 0x00010000)
	binary.BigEndian.PutUint32(header[28:], uint32(entries))
	binary.BigEndian.PutUint32(header[32:], treeBlock)
	names := make([]byte, 3*512)
	if f.parent != nil {
		copy(header[40:], f.parent.identity())
		name := f.parent.uuid + ".vhd"
		for i, u := range utf16.Encode([]rune(name)) {
			binary.BigEndian.PutUint16(header[64+2*i:], u)
		}
		var wide []byte
		for _, u := range utf16.Encode([]rune("./" + name)) {
			wide = binary.LittleEndian.AppendUint16(wide, u)
		}
		for i, text := range [][]byte{[]byte("file://./" + name), wide, wide} {
			entry := header[576+24*i:]
			copy(entry, []string{"MacX", "W2ku", "W2ru"}[i])
			binary.BigEndian.PutUint32(entry[4:], 1)
			binary.BigEndian.PutUint32(entry[8:], uint32(len(text)))
			binary.BigEndian.PutUint64(entry[16:], uint64(1536+512*i))
			copy(names[512*i:], text)
		}
	}
	sumOf(header, 36)
	bat := bytes.Repeat([]byte{0xff}, (4*entries+511)/512*512)
	var data []byte
	for _, block := range r.Perm(entries) { // as they were first written to
		bitmap, there := make([]byte, treeBitmap), false
		whole := make([]byte, treeBlock)
		for s := range treeBlock / sector {
			at := block*treeBlock/sector + s
			if at < len(f.own) && f.own[at] {
				there = true
				bitmap[s/8] |= 0x80 >> (s % 8)
				copy(whole[s*sector:], f.holds[at*sector:(at+1)*sector])
			} else if f.parent != nil { // nobody may look at this
				for i := range sector {
					whole[s*sector+i] = 0xee
				}
			}
		}
		if there {
			binary.BigEndian.PutUint32(bat[4*block:], uint32((table+len(bat)+len(data))/512))
			data = append(append(data, bitmap...), whole...)
		}
	}
	all := append(f.footer(), header...)
	all = append(append(append(all, names...), bat...), data...)
	return append(all, f.footer()...)
}

func treeUUID(tree, i int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", tree, i) }

// treeFiles are the files of an SR: a chain of 30 links with snapshots on the way and several leaves, a fixed disk with a clone, and a
// dynamic one that nothing is the difference to.
func treeFiles(r *rand.Rand, links int) (all []*treeFile) {
	size := 24<<20 + 3*sector
	leaf := treeUUID(1, 1000)
	var below *treeFile
	for i := range links - 1 {
		if i == 10 {
			size = 33<<20 + 5*sector // it was grown
		}
		base := grow(below, treeUUID(1, i), size, true)
		if i == 0 {
			base.write(r, 0, 9000, false)
			base.write(r, 20000, 9000, false)
		}
		base.scribble(r)
		all = append(all, base)
		if i%3 == 1 {
			snapshot := grow(base, treeUUID(1, 100+i), size, false)
			snapshot.snapshotOf, snapshot.name = leaf, fmt.Sprintf("snapshot %d", i)
			all = append(all, snapshot)
		}
		if i%10 == 5 {
			clone := grow(base, treeUUID(1, 200+i), size, false)
			clone.name = fmt.Sprintf("clone %d\u009b[31m \"<&>%% \n", i)
			clone.scribble(r)
			all = append(all, clone)
		}
		below = base
	}
	last := grow(below, leaf, size, false)
	last.name = "the disk"
	last.scribble(r)
	fixed := grow(nil, treeUUID(2, 1), 5<<20, false) // not hidden: a disk of its own, and others are the difference to it
	fixed.fixed, fixed.name = true, "fixed"
	fixed.write(r, 100, 3000, false)
	smaller := grow(fixed, treeUUID(2, 2), 3<<20, false)
	smaller.name = "smaller than its parent"
	smaller.scribble(r)
	larger := grow(smaller, treeUUID(2, 3), 6<<20, false)
	larger.name = "larger again"
	alone := grow(nil, treeUUID(3, 1), 16<<20, false)
	alone.name = "alone"
	alone.scribble(r)
	dead := grow(alone, treeUUID(3, 2), 16<<20, true)
	return append(all, last, fixed, smaller, larger, alone, dead)
}

// makeTree makes, in a directory, old/<uuid>.vhd, for each disk want/<uuid>, and state.db, which does not have the last of them.
func makeTree(dir string, links int) error {
	r := rand.New(rand.NewPCG(17, 30))
	for _, sub := range []string{"old", "want"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	var rows strings.Builder
	for _, f := range treeFiles(r, links) {
		if err := os.WriteFile(filepath.Join(dir, "old", f.uuid+".vhd"), f.vhd(r), 0o600); err != nil {
			return err
		}
		if f.hidden || f.name == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "want", f.uuid), f.holds, 0o600); err != nil {
			return err
		}
		if f.name == "alone" {
			continue
		}
		of, at := "OpaqueRef:NULL", "19700101T00:00:00Z"
		if f.snapshotOf != "" {
			of, at = "OpaqueRef:"+f.snapshotOf, time.Date(2026, 3, 1, 12, 0, len(rows.String())%60, 0, time.UTC).Format("20060102T15:04:05Z")
		}
		name := strings.NewReplacer("%", "%%", " ", "%.", "\n", "%n", "&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(f.name)
		fmt.Fprintf(&rows, `<row ref="OpaqueRef:%[1]s" __ctime="1" __mtime="2" SR="OpaqueRef:NULL" _ref="OpaqueRef:%[1]s" is_a_snapshot="%[2]v" location="%[1]s" managed="true" name__description="of%%.a%%.test" name__label="%[3]s" sharable="false" snapshot_of="%[4]s" snapshot_time="%[5]s" type="user" uuid="%[1]s"/>`,
			f.uuid, f.snapshotOf != "", name, of, at)
	}
	return os.WriteFile(filepath.Join(dir, "state.db"), []byte(`<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<database><manifest><pair key="schema_major_vsn" value="5"/></manifest><table name="VBD"/><table name="VDI">`+rows.String()+`</table></database>`), 0o600)
}

// makeBad makes, in a directory, some with VHDs that no tree can be made of.
func makeBad(dir string) error {
	r := rand.New(rand.NewPCG(17, 31))
	const size = 4 << 20
	disk := func(parent *treeFile, i int) *treeFile {
		f := grow(parent, treeUUID(4, i), size, false)
		f.write(r, 100, 8, false)
		f.write(r, 5000, 8, false)
		return f
	}
	put := func(name string, f *treeFile, change func([]byte) []byte) error {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name, f.uuid+".vhd"), change(f.vhd(r)), 0o600)
	}
	as := func(p []byte) []byte { return p }
	root := disk(nil, 1)
	child := disk(root, 2)
	round := disk(child, 1)
	fixed := disk(nil, 3)
	fixed.fixed = true
	bat := func(entry int, value uint32) func([]byte) []byte {
		return func(p []byte) []byte { binary.BigEndian.PutUint32(p[512+1024+3*512+4*entry:], value); return p }
	}
	return errors.Join(
		put("missing", child, as),
		put("loop", child, as), put("loop", round, as),
		put("identity", child, as), put("identity", root, func(p []byte) []byte {
			for _, at := range []int{0, len(p) - 512} {
				p[at+68] ^= 1
				sumOf(p[at:at+512], 64)
			}
			return p
		}),
		put("footer", root, func(p []byte) []byte { p[len(p)-512+300] = 1; return p }),
		put("none", root, func(p []byte) []byte { return p[512 : len(p)-512] }),
		put("table", root, bat(1, 1<<20)),
		put("overlap", root, func(p []byte) []byte {
			return bat(1, binary.BigEndian.Uint32(p[512+1024+3*512:])+8)(p)
		}),
		put("cut", fixed, func(p []byte) []byte { return p[1<<20:] }),
		put("long", root, func(p []byte) []byte { return append(p, make([]byte, 4096)...) }),
	)
}

// treeProgram makes them for sessions: vhdtree DIR LINKS, or vhdtree bad DIR.
func treeProgram() {
	var err error
	if os.Args[1] == "bad" {
		err = makeBad(os.Args[2])
	} else {
		var links int
		if links, err = strconv.Atoi(os.Args[2]); err == nil {
			err = makeTree(os.Args[1], links)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
