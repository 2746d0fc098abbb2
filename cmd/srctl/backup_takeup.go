package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"reflinksr/cmd/internal/catalogue"
	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/repository"
)

// takeUp finishes what an interrupted backup has begun to write, and takes away all else that it left: snapshots of which
// nothing was written, and pieces of which there is no snapshot.
func (b *backupRun) takeUp(ctx context.Context, full bool) error {
	mine, err := b.mine(ctx)
	if err != nil {
		return err
	}
	partials, err := b.st.partials()
	if err != nil {
		return err
	}
	for _, v := range mine {
		if b.st.find(v.Key) != nil {
			continue
		}
		i := slices.IndexFunc(partials, func(path string) bool { return strings.Contains(path, "-"+string(v.Key)[:8]+".") })
		if i >= 0 && !full {
			if err := b.finish(ctx, v, partials[i]); err == nil {
				partials = slices.Delete(partials, i, i+1)
				continue
			} else if !errors.Is(err, errBeginAnew) {
				return b.pending(v.Key, err)
			}
		}
		note("snapshot %s, of which an interrupted backup has written nothing that is of use, is destroyed", v.Key)
		if err := (repository.Volume{SR: b.v.SR, Key: v.Key}).Destroy(ctx); err != nil {
			return err
		}
	}
	for _, path := range partials {
		note("%s, which an interrupted backup left, is removed: its snapshot is gone, or nothing can be made of it", path)
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// errBeginAnew says that what was interrupted cannot be gone on with.
var errBeginAnew = errors.New("begin anew")

// finish writes the rest of an interrupted backup.
func (b *backupRun) finish(ctx context.Context, v repository.VolumeStat, partial string) error {
	name := strings.TrimSuffix(filepath.Base(partial), ".partial")
	at, err := catalogue.TimeOf(name)
	if err != nil {
		return errBeginAnew
	}
	f, err := os.Open(partial)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := delta.NewReader(f)
	if err != nil || r.Header().To != v.Key || catalogue.FileName(at, r.Header().From, v.Key) != name {
		return errBeginAnew
	}
	since := r.Header().From
	if at := b.st.Find(since); since != "" && (at < 0 || b.st.lostAt(at) != nil) {
		return errBeginAnew
	}
	d, err := b.compare(ctx, since, v.Key)
	if err != nil {
		return errBeginAnew
	}
	defer d.Data.Close()
	p, err := b.write(d, at)
	if err != nil {
		return err
	}
	note("%s, which was interrupted, is finished: %s", b.st.path(p), b.s.bytes(p.Bytes))
	b.answer.Finished = append(b.answer.Finished, b.st.path(p))
	return b.leave(ctx, p.Key)
}
