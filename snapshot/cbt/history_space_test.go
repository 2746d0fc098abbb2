package cbt

import (
	"context"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/extent"
	"reflinksr/volume"
)

// used is how many bytes of data the filesystem holds, once all is written and freed that will be. On btrfs it is exact;
// XFS counts what it needs for itself as well.
func (b *bed) used() (int64, error) {
	if err := b.settle(); err != nil {
		return 0, err
	}
	dir, err := os.Open(b.dir)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return 0, err
	}
	request := struct { // struct btrfs_ioctl_space_args (linux/btrfs.h)
		slots, total uint64
		spaces       [16]struct{ flags, size, used uint64 }
	}{slots: 16}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), 0xc0109414, uintptr(unsafe.Pointer(&request))) // BTRFS_IOC_SPACE_INFO
	if errno == unix.ENOTTY {
		var st unix.Statfs_t
		err := unix.Fstatfs(int(dir.Fd()), &st)
		return int64(st.Blocks-st.Bfree) * st.Bsize, err
	}
	if errno != 0 {
		return 0, errno
	}
	for _, s := range request.spaces[:request.total] {
		if s.flags&1 != 0 { // BTRFS_BLOCK_GROUP_DATA
			return int64(s.used), nil
		}
	}
	return 0, unix.ENODATA
}

// metadata is how much of what XFS frees may be its own, of a disk in some thousand pieces.
const metadata = 512 << 10

// destroying destroys a disk by the call do, and judges what that was said to give back by what the filesystem
// has then. Relatives whose data was destroyed lose with it what only they shared, or take over
// blocks that they need.
func (h *history) destroying(d *modelDisk, do func() error) {
	h.t.Helper()
	before, err := h.used()
	h.must(err)
	told := h.usageOf(d)
	h.must(do())
	after, err := h.used()
	h.must(err)
	freed := before - after
	btrfs := h.layout.kind == "btrfs"
	others := slices.ContainsFunc(h.kin(d), func(k *modelDisk) bool { return k != d && k.destroyed })
	slack := int64(0)
	if !btrfs {
		slack = metadata
	}
	switch {
	case d.destroyed && others:
		return
	case freed < told.GivesBack-slack:
		h.fatalf("destroying %s was to give back %d bytes, and gave back %d: %+v", d, told.GivesBack, freed, told)
	case others, h.seed%2 == 1: // what was deduplicated within a file is told to be shared
	case freed > told.GivesBack+slack:
		h.fatalf("destroying %s was to give back %d bytes, and gave back %d: %+v", d, told.GivesBack, freed, told)
	}
	h.space++
	if told.Pinned > 0 {
		h.pinned++
	}
}

func (h *history) usageOf(d *modelDisk) extent.Usage {
	f, err := os.Open(h.path(d))
	h.must(err)
	defer f.Close()
	u, err := extent.UsageOf(f)
	h.must(err)
	return u
}

// compact compacts a disk. That gives back what it says that it does, and changes no answer.
func (h *history) compact() bool {
	d := h.pick((*modelDisk).living, (*modelDisk).idle)
	if d == nil {
		return false
	}
	percent := []int{0, 0, 30}[h.rand.IntN(3)]
	h.note("compact %s, %d %%", d, percent)
	pairs := h.pairs(h.kin(d))
	h.rand.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
	pairs = pairs[:min(len(pairs), 6)]
	for _, p := range pairs {
		h.compare(p[0], p[1])
	}
	before, err := h.used() // what others have written to blocks that they shared is written with that
	h.must(err)
	shared := h.usageOf(d).Shared
	plan, err := volume.PlanCompaction(h.handle, d.key, percent)
	h.must(err)
	done, err := volume.Compact(context.Background(), h.handle, d.key, percent, func(int64, int64) {})
	h.must(err)
	after, err := h.used()
	h.must(err)
	switch u := h.usageOf(d); {
	case h.layout.kind != "btrfs":
		if plan.Extents > 0 || done.Extents > 0 {
			h.fatalf("there is nothing to gain: %+v, %+v", plan, done)
		}
	case before-after != done.GivesBack:
		h.fatalf("compacting %s gave back %d bytes, and was told to have given back %d: %+v, planned %+v", d, before-after, done.GivesBack, done, plan)
	case done.GivesBack < 0, h.layout.mount == "" && (done.Extents != plan.Extents || done.Writes != plan.Writes || done.GivesBack != plan.GivesBack):
		h.fatalf("compacting %s was planned as %+v, and was %+v", d, plan, done)
	case u.Shared != shared:
		h.fatalf("compacting %s: it shared %d bytes, and shares %d", d, shared, u.Shared)
	}
	if done.GivesBack > 0 {
		h.compacted++
	}
	for _, p := range pairs {
		h.compare(p[0], p[1])
	}
	h.check(d)
	return true
}
