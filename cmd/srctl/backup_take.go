package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/catalogue"
	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
)

// compare is the difference between two snapshots, or all of the second.
func (b *backupRun) compare(ctx context.Context, since, key repository.Key) (*repository.Delta, error) {
	stop := busy("comparing")
	defer stop()
	return repository.Volume{SR: b.v.SR, Key: key}.DeltaSince(ctx, since)
}

// base is the snapshot of the newest point that a delta can begin with; and why there is none.
func (b *backupRun) base(ctx context.Context, said backingUp) (repository.Key, string, error) {
	if said.full {
		return "", "--full says so", nil
	}
	if len(b.st.Points) == 0 {
		return "", "nothing of this disk is there yet", nil
	}
	mine, err := b.mine(ctx)
	if err != nil {
		return "", "", err
	}
	why := "the snapshot of the last backup is gone"
	for i, p := range slices.Backward(b.st.Points) {
		if !slices.ContainsFunc(mine, func(v repository.VolumeStat) bool { return v.Key == p.Key }) {
			continue
		}
		chain, _ := b.st.Chain(i)
		switch err := b.st.lostAt(i); {
		case err != nil:
			why = err.Error()
		case len(chain) >= said.fullEvery:
			return "", fmt.Sprintf("there are %d since the last one that is", len(chain)), nil
		default:
			return p.Key, "", nil
		}
	}
	return "", why, nil
}

// take takes a snapshot and writes what has changed until then.
func (b *backupRun) take(ctx context.Context, said backingUp) (p catalogue.Point, err error) {
	since, why, err := b.base(ctx, said)
	if err != nil {
		return p, err
	}
	if said.at == "" { // the disks before may have taken long
		b.now = time.Now().UTC().Truncate(time.Second)
	}
	stop := busy("taking a snapshot")
	made, err := b.v.SnapshotAs(ctx, repository.Label{
		Name:        named("backup of ", b.disk.Name, b.now),
		Description: fmt.Sprintf("made by srctl backup for %s, where the next backup begins with it; destroyed by that", b.dir),
		Keys:        map[string]string{keyBackup: string(b.st.ID), keyDirectory: b.dir, keyOf: string(b.v.Key)},
	})
	stop()
	if err != nil {
		return p, err
	}
	d, err := b.compare(ctx, since, made.Key)
	if err != nil && since != "" {
		why = err.Error()
		d, err = b.compare(ctx, "", made.Key)
	}
	if err != nil {
		return p, b.pending(made.Key, err)
	}
	defer d.Data.Close()
	b.answer.Why = why
	if p, err = b.write(d, b.now); err != nil {
		return p, b.pending(made.Key, err)
	}
	return p, nil
}

// named is what a snapshot is called that srctl makes of a disk: names have a limit.
func named(before, disk string, at time.Time) string {
	const most = 200
	if runes := []rune(disk); len(runes) > most {
		disk = string(runes[:most]) + "…"
	}
	return strings.TrimSpace(before + strings.ToValidUTF8(disk, "?") + " " + shownTime(at))
}

// pending tells what becomes of a snapshot whose stream is not whole.
func (b *backupRun) pending(key repository.Key, err error) error {
	return fault.Hint(fmt.Errorf("%w: snapshot %s is kept, and the next backup takes it up", err, key), "mend that, and back up again; or, to give up, destroy that snapshot")
}

// write writes a point's stream, reads it back, gives it its name, and notes it.
func (b *backupRun) write(d *repository.Delta, at time.Time) (p catalogue.Point, err error) {
	p = catalogue.Point{Key: d.To, Since: d.From, At: at, Size: d.ToSize, File: catalogue.FileName(at, d.From, d.To)}
	f, err := exportToPartial(d, b.st.path(p))
	if f != nil {
		defer f.Close()
	}
	if err != nil {
		return p, err
	}
	if p.Bytes, err = sizeOf(f); err != nil {
		return p, err
	}
	if err := readBack(f, headerOf(d), p.Bytes); err != nil {
		return p, fmt.Errorf("%s was written, and reads as something else: %w", f.Name(), err)
	}
	if err := rename(f.Name(), b.st.path(p)); err != nil {
		return p, err
	}
	b.st.Points = append(b.st.Points, p)
	return p, b.st.save()
}

// readBack verifies what was written, as the storage has it: what is in the page cache is not asked.
func readBack(f *os.File, h delta.Header, size int64) error {
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	got, err := readWhole(f, size)
	if err == nil && got != h {
		err = errors.New("it is of other volumes")
	}
	return err
}

// leave destroys the snapshots that were made for this directory, but for the one that the next backup begins with. One that
// somebody has is left to the next backup.
func (b *backupRun) leave(ctx context.Context, last repository.Key) error {
	mine, err := b.mine(ctx)
	if err != nil {
		return err
	}
	for _, v := range mine {
		if v.Key == last || b.st.find(v.Key) == nil {
			continue
		}
		err := repository.Volume{SR: b.v.SR, Key: v.Key}.Destroy(ctx)
		if errors.Is(err, fault.ErrInUse) || errors.Is(err, fault.ErrElsewhere) {
			note("snapshot %s stays until the next backup: %v", v.Key, err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}
