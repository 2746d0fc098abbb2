package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	ext4Size    = 256 << 20 // bytes, of a disk with an ext4
	ext4Threads = 2
	ext4Kept    = 40       // files that each thread keeps; older ones it removes
	ext4Between = 10       // files that are fsynced from one snapshot to the next
	ext4File    = 48 << 10 // bytes that a file has at most
)

// clerk is a thread that makes numbered files in a directory of its own: each is
// written, fsynced, renamed to its number, and its directory fsynced.
type clerk struct {
	number   int
	dir      string
	begun    atomic.Int64  // newest file that it has begun
	lasting  atomic.Int64  // newest file that is there to stay
	removing atomic.Int64  // newest file that it has begun to remove
	longest  time.Duration // that a file took
}

// text is what a file of a clerk has in it.
func text(clerk int, file int64) []byte {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(clerk))
	binary.LittleEndian.PutUint64(seed[8:], uint64(file))
	stream := rand.NewChaCha8(seed)
	b := make([]byte, stream.Uint64()%ext4File)
	stream.Read(b)
	return b
}

func (c *clerk) run(ctx context.Context, done func()) error {
	dir, err := os.Open(c.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	for n := int64(1); ctx.Err() == nil; n++ {
		c.begun.Store(n)
		start := time.Now()
		if err := c.make(n); err != nil {
			return err
		}
		if err := dir.Sync(); err != nil {
			return err
		}
		c.lasting.Store(n)
		c.longest = max(c.longest, time.Since(start))
		if n > ext4Kept {
			c.removing.Store(n - ext4Kept)
			if err := os.Remove(c.path(n - ext4Kept)); err != nil {
				return err
			}
		}
		done()
	}
	return nil
}

func (c *clerk) path(n int64) string { return filepath.Join(c.dir, strconv.FormatInt(n, 10)) }

func (c *clerk) make(n int64) error {
	draft := filepath.Join(c.dir, "draft")
	f, err := os.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text(c.number, n))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(draft, c.path(n))
}

// span is what must, and what can be there of a clerk's files in a snapshot.
type span struct{ gone, removing, lasting, begun int64 }

func (c *clerk) before() span {
	n := c.lasting.Load()
	// The removal of a file lasts from the next fsync of the directory on.
	return span{lasting: n, gone: n - 1 - ext4Kept}
}

func (c *clerk) after(s span) span {
	s.removing, s.begun = c.removing.Load(), c.begun.Load()
	return s
}

// check compares a clerk's directory in a snapshot with what can be there.
func (s span) check(clerk int, dir string, v *verdict) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	there := map[int64]bool{}
	for _, e := range entries {
		n, err := strconv.ParseInt(e.Name(), 10, 64)
		if err != nil {
			continue // a draft, in whatever state
		}
		there[n] = true
		switch b, err := os.ReadFile(filepath.Join(dir, e.Name())); {
		case err != nil:
			v.found(&v.Torn, 1, "file %d of thread %d: %v", n, clerk, err)
		case !bytes.Equal(b, text(clerk, n)):
			v.found(&v.Torn, 1, "file %d of thread %d is not what was fsynced", n, clerk)
		case n > s.begun:
			v.found(&v.Future, 1, "file %d of thread %d was begun after the answer", n, clerk)
		case n <= s.gone:
			v.found(&v.OutOfOrder, 1, "file %d of thread %d is there again: its removal was fsynced before the call", n, clerk)
		}
	}
	for n := max(s.removing, 0) + 1; n <= s.lasting; n++ {
		if !there[n] {
			v.found(&v.Missing, 1, "file %d of thread %d is missing: it was fsynced before the call", n, clerk)
		}
	}
	return nil
}

// needsExt4 says what is missing for an ext4 on a disk.
func needsExt4() error {
	for _, name := range []string{"mkfs.ext4", "e2fsck"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%s is not installed: install e2fsprogs, or leave the ext4 out with -ext4 0", name)
		}
	}
	return nil
}

// underFiles is the load of an ext4 on the disk.
func (r *run) underFiles(ctx context.Context, b *bed) (s summary, err error) {
	s = summary{Load: "ext4", setup: b.setup, Seed: r.seed}
	d, err := b.create(ext4Size)
	if err != nil {
		return s, err
	}
	p, err := b.plugIn(d, "1", false)
	if err != nil {
		return s, err
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", p.device).CombinedOutput(); err != nil {
		return s, fmt.Errorf("mkfs.ext4 %s: %w: %s", p.device, err, out)
	}
	dir, err := mountExt4(b, p, "disk")
	if err != nil {
		return s, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var done sync.WaitGroup
	defer done.Wait()
	defer cancel(nil)
	made := newPace()
	clerks := make([]*clerk, ext4Threads)
	for i := range clerks {
		c := &clerk{number: i, dir: filepath.Join(dir, strconv.Itoa(i))}
		if err := os.Mkdir(c.dir, 0o700); err != nil {
			return s, err
		}
		clerks[i] = c
	}
	unix.Sync() // the directories
	for _, c := range clerks {
		done.Go(func() {
			if err := c.run(ctx, made.step); err != nil {
				cancel(fmt.Errorf("the ext4: %w", err))
			}
		})
	}
	for n := range r.ext4 {
		if err := made.wait(ctx, int64((n+1)*ext4Between)); err != nil {
			return s, err
		}
		v, took, err := b.snapshotOfFiles(d, clerks)
		if err != nil {
			return s, err
		}
		s.judged(v, fmt.Sprintf("snapshot %d of an ext4", n+1))
		s.Snapshots++
		s.calls = append(s.calls, sample{took: took})
		if err := r.line(line{Load: s.Load, setup: s.setup, Number: n + 1, Took: took, verdict: v}); err != nil {
			return s, err
		}
	}
	cancel(nil)
	done.Wait()
	s.Writes = int(made.made.Load())
	for _, c := range clerks {
		s.Stall = max(s.Stall, c.longest)
	}
	return s, errors.Join(unix.Unmount(dir, 0), b.unplug(p))
}

func mountExt4(b *bed, p plug, name string) (string, error) {
	dir := filepath.Join(b.fs.Dir+".in", name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := unix.Mount(p.device, dir, "ext4", 0, ""); err != nil {
		return "", &os.PathError{Op: "mount", Path: p.device, Err: err}
	}
	return dir, nil
}

// snapshotOfFiles takes a snapshot of the disk with the ext4, and judges a clone of it.
func (b *bed) snapshotOfFiles(d disk, clerks []*clerk) (v verdict, took time.Duration, err error) {
	spans := make([]span, len(clerks))
	for i, c := range clerks {
		spans[i] = c.before()
	}
	start := time.Now()
	snap, err := b.derive("Volume.snapshot", d)
	took = time.Since(start)
	if err != nil {
		return v, took, err
	}
	for i, c := range clerks {
		spans[i] = c.after(spans[i])
	}
	clone, err := b.derive("Volume.clone", snap)
	if err != nil {
		return v, took, err
	}
	p, err := b.plugIn(clone, "2", false)
	if err != nil {
		return v, took, err
	}
	err = judgeFiles(b, p, spans, &v)
	return v, took, errors.Join(err, b.unplug(p), b.destroy(clone), b.destroy(snap))
}

// judgeFiles mounts what a guest would find after a power cut at that moment, which
// replays its journal, and looks at the files; then e2fsck looks at the rest.
func judgeFiles(b *bed, p plug, spans []span, v *verdict) error {
	dir, err := mountExt4(b, p, "clone")
	if err != nil {
		v.found(&v.Torn, 1, "it cannot be mounted: %v", err)
		return nil
	}
	for i, s := range spans {
		err := s.check(i, filepath.Join(dir, strconv.Itoa(i)), v)
		if errors.Is(err, fs.ErrNotExist) {
			v.found(&v.Missing, 1, "the directory of thread %d is missing", i)
		} else if err != nil {
			v.found(&v.Torn, 1, "%v", err)
		}
	}
	if err := unix.Unmount(dir, 0); err != nil {
		return &os.PathError{Op: "unmount", Path: dir, Err: err}
	}
	if out, err := exec.Command("e2fsck", "-fn", p.device).CombinedOutput(); err != nil {
		v.found(&v.Torn, 1, "e2fsck -fn: %v: %s", err, out)
	}
	return nil
}
