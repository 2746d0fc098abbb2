package cbt

import (
	"context"
	"os"

	"reflinksr/internal/extent"
	"reflinksr/internal/sys"
)

// ChangedIn tells, in order, which ranges of bytes of two files may differ that hold one disk at two moments, and to which nobody
// writes. Ranges that touch can come as several.
func ChangedIn(ctx context.Context, before, now *os.File, add func(start, end int64)) error {
	a, err := fileDisk(before)
	if err != nil {
		return err
	}
	b, err := fileDisk(now)
	if err != nil {
		return err
	}
	p := pair{a: a, b: b}
	return p.differences(ctx, 0, max(a.size, b.size), add)
}

// ContentsOf tells, in order, which ranges of bytes of a file are not empty, to which nobody writes.
func ContentsOf(ctx context.Context, f *os.File, add func(start, end int64)) error {
	d, err := fileDisk(f)
	if err != nil {
		return err
	}
	return contents(ctx, d, add)
}

// fileDisk is a file as a disk that is compared.
func fileDisk(f *os.File) (*disk, error) {
	st, err := sys.Fstat(f)
	if err != nil {
		return nil, err
	}
	fs, err := sys.Fstatfs(f)
	if err != nil {
		return nil, err
	}
	d := &disk{file: f, size: st.Size}
	if sys.KindOfMagic(fs) == "btrfs" {
		d.tree = extent.InTree(f) || f.Sync() == nil
	}
	return d, nil
}
