package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/extent"
	"reflinksr/internal/overwrite"
	"reflinksr/internal/repository"
	"reflinksr/internal/sys"
)

func (s *session) delta() *cobra.Command {
	destroy := false
	apply := s.takes(s.answersJSON(command("apply FILE TARGET", "make a file or a device that holds one volume hold the next",
		`apply makes a file or a block device that holds what a stream begins with hold what it
ends with. The stream of a whole disk makes a new file, or is written to a blank
device, or as a disk to a pipe (-). FILE can be - for a pipe. What is interrupted
is finished by applying the same stream again.`,
		`  srctl delta apply disk.full disk.raw
  srctl delta apply disk-2.delta disk.raw
  ssh backup cat disk.full | srctl delta apply - /dev/sdx`, 2, 2,
		func(ctx context.Context, args []string) error { return s.deltaApply(ctx, args, destroy) })), aFile, aFile)
	apply.Flags().BoolVar(&destroy, "overwrite", false, "whatever the target holds, if nobody uses it")
	return family("delta", "incremental backup to streams, and restore",
		`delta writes what one volume has that an older snapshot has not, or all of it, as a
stream with checksums, applies such streams, and verifies them.`,
		s.takes(s.answersJSON(command("export SR [A] B FILE", "write what the volume B has that the snapshot A has not",
			`export writes what the volume B has that the snapshot A has not; without A (or with -)
all of it. FILE can be - for a pipe. What is interrupted is continued by the same
command if B is a snapshot.`,
			`  srctl delta export tank $MONDAY monday.full
  srctl delta export tank $MONDAY $TUESDAY tuesday.delta
  srctl delta export tank $MONDAY - | ssh backup 'cat > monday.full'`, 3, 4, s.deltaExport)), anSR, aVolume, aVolume, aFile),
		apply,
		s.takes(s.answersJSON(command("verify FILE", "say whether a stream is whole, and what it is",
			`verify reads a whole stream, compares its checksums, and tells which volume it makes of
which. FILE can be - for a pipe.`,
			`  srctl delta verify tuesday.delta`, 1, 1,
			func(_ context.Context, args []string) error { return s.deltaVerify(args) })), aFile))
}

// deltaExport writes what a volume has that a snapshot has not, or all of it.
func (s *session) deltaExport(ctx context.Context, args []string) error {
	from, to, path := "", args[1], args[2]
	if len(args) == 4 {
		from, to, path = args[1], args[2], args[3]
	}
	if from == "-" {
		from = ""
	}
	sr, err := s.at(ctx, args[0])
	if err != nil {
		return err
	}
	if err := s.mayAnswer(path); err != nil {
		return err
	}
	if err := mayMake(path); err != nil {
		return err
	}
	start := time.Now()
	ctx, stop := untilEnded(ctx)
	defer stop()
	d, err := deltaOf(ctx, sr, from, to)
	if err != nil {
		return err
	}
	size, err := endable(ctx, func() (int64, error) {
		defer d.Data.Close()
		if path == "-" {
			return exportToPipe(d, s.out)
		}
		return exportToFile(d, path)
	})
	if err != nil {
		if partial := path + ".partial"; ctx.Err() != nil && path != "-" && !d.ReadWrite && isThere(partial) {
			err = goesOn(err, partial)
		}
		return err
	}
	return s.wrote(path, written{Path: path, Key: d.To, Bytes: size, Seconds: time.Since(start).Seconds()})
}

// deltaOf is the difference between two volumes; all of the second if there is no first.
func deltaOf(ctx context.Context, sr repository.SR, from, to string) (*repository.Delta, error) {
	v, err := sr.Find(ctx, to)
	if err != nil {
		return nil, err
	}
	var since repository.Volume
	if from != "" {
		if since, err = sr.Find(ctx, from); err != nil {
			return nil, err
		}
	}
	stop := busy("comparing")
	defer stop()
	return v.DeltaSince(ctx, since.Key)
}

func exportToPipe(d *repository.Delta, out io.Writer) (size int64, err error) {
	s, err := openStdout(out)
	if err != nil {
		return 0, err
	}
	begin := s.at
	b := bufio.NewWriterSize(s, delta.MaxData)
	w, err := delta.NewWriter(b, headerOf(d))
	if err == nil {
		err = writeDelta(w, d)
	}
	if err == nil {
		err = b.Flush()
	}
	if err == nil {
		err = s.End()
	}
	return s.at - begin, err
}

func headerOf(d *repository.Delta) delta.Header {
	return delta.Header{From: d.From, To: d.To, FromSize: d.FromSize, ToSize: d.ToSize}
}

// exportToFile writes beside the file, and gives it its name when it is whole. What an
// interrupted export left is continued.
func exportToFile(d *repository.Delta, path string) (size int64, err error) {
	f, err := exportToPartial(d, path)
	if f == nil {
		return 0, err
	}
	defer f.Close()
	if err == nil {
		size, err = sizeOf(f)
	}
	if err != nil {
		if !d.ReadWrite {
			err = goesOn(err, f.Name())
		}
		return 0, err
	}
	return size, rename(f.Name(), path)
}

// exportToPartial writes all of a stream durably to what path is called until it is whole. The file is nil if nothing was written,
// and may hold a part if there is an error.
func exportToPartial(d *repository.Delta, path string) (*os.File, error) {
	f, err := openPartial(path)
	if err != nil {
		return nil, err
	}
	b := bufio.NewWriterSize(f, delta.MaxData)
	w, err := continueExport(f, b, d)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if w != nil {
		err = writeDelta(w, d)
	}
	if e := b.Flush(); err == nil {
		err = e
	}
	if err == nil {
		err = f.Sync()
	}
	return f, err
}

// openPartial opens what a file is called until it is whole, made if absent, for nobody
// else to write meanwhile.
func openPartial(target string) (*os.File, error) {
	name := target + ".partial"
	if err := overwrite.FileIsFree(name); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockName(f, name); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// continueExport begins a stream, or goes on after the last whole record of one that was
// interrupted; nil if that has its end record. A writable volume may have been written
// to meanwhile.
func continueExport(f *os.File, b *bufio.Writer, d *repository.Delta) (*delta.Writer, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() == 0 {
		return delta.NewWriter(b, headerOf(d))
	}
	p := newProgress("verifying", st.Size())
	defer p.end()
	r, err := delta.NewReader(bufio.NewReaderSize(f, delta.MaxData))
	if err == nil && r.Header() != headerOf(d) {
		err = errors.New("it is of other volumes")
	}
	if err != nil {
		return nil, fmt.Errorf("it is there, and not what an interrupted export of this left: %w: remove it", err)
	}
	if d.ReadWrite {
		if err := restart(f, 0); err != nil {
			return nil, err
		}
		return delta.NewWriter(b, headerOf(d))
	}
	for {
		_, err := r.Next()
		if err == io.EOF {
			return nil, nil
		}
		if err != nil {
			if !errors.As(err, new(*delta.Damage)) {
				return nil, err
			}
			return r.Continue(b), restart(f, r.Position())
		}
		p.reach(r.Position())
	}
}

// restart cuts off a file and writes there.
func restart(f *os.File, at int64) error {
	if err := f.Truncate(at); err != nil {
		return err
	}
	_, err := f.Seek(at, io.SeekStart)
	return err
}

// writeDelta writes the records that w does not have yet, and the end record.
func writeDelta(w *delta.Writer, d *repository.Delta) error {
	unit := d.Changed.BlockSize
	left := func(do func(start, end int64) error) error {
		from := w.End()
		for _, r := range d.Changed.Ranges {
			if start, end := max(r[0]*unit, from), min((r[0]+r[1])*unit, d.ToSize); start < end {
				if err := do(start, end); err != nil {
					return err
				}
			}
		}
		return nil
	}
	total := int64(0)
	err := left(func(start, end int64) error {
		return extent.EachData(d.Data, start, end, func(start, end int64) error { total += end - start; return nil })
	})
	if err != nil {
		return err
	}
	p := newProgress("exporting", total)
	defer p.end()
	if err := left(func(start, end int64) error { return writeRange(w, d.Data, start, end, p) }); err != nil {
		return err
	}
	return w.Close()
}

// writeRange writes a range of whole blocks. Holes are not read.
func writeRange(w *delta.Writer, f *os.File, start, end int64, p *progress) error {
	buffer := make([]byte, min(delta.MaxData, end-start))
	for start < end {
		found, err := f.Seek(start, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // nothing but a hole follows
			found, err = end, nil
		}
		if err != nil {
			return err
		}
		// The filesystem's blocks may be smaller: then data can begin within one of ours.
		if data := min(found/delta.BlockSize*delta.BlockSize, end); data > start {
			if err := w.Zeros(start, data-start); err != nil {
				return err
			}
			start = data
			continue
		}
		hole, err := f.Seek(max(start, found), unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		stop := min((hole+delta.BlockSize-1)/delta.BlockSize*delta.BlockSize, end)
		for start < stop {
			piece := buffer[:min(int64(len(buffer)), stop-start)]
			n, err := f.ReadAt(piece, start)
			if err != nil && err != io.EOF {
				return err
			}
			clear(piece[n:]) // a file of the simple file SR may end within a block
			if err := writePiece(w, start, piece); err != nil {
				return err
			}
			start += int64(len(piece))
			p.add(int64(len(piece)))
		}
	}
	return nil
}

var zeroBlock [delta.BlockSize]byte

// writePiece parts whole blocks into those that are zero and those that are not.
func writePiece(w *delta.Writer, offset int64, piece []byte) error {
	for len(piece) > 0 {
		zero := bytes.Equal(piece[:delta.BlockSize], zeroBlock[:])
		n := delta.BlockSize
		for n < len(piece) && bytes.Equal(piece[n:n+delta.BlockSize], zeroBlock[:]) == zero {
			n += delta.BlockSize
		}
		var err error
		if zero {
			err = w.Zeros(offset, int64(n))
		} else {
			err = w.Data(offset, piece[:n])
		}
		if err != nil {
			return err
		}
		offset, piece = offset+int64(n), piece[n:]
	}
	return nil
}

// lockName locks an open file against other processes of ours, and makes sure that it
// still has its name, and no other: what is written to it would be written to that as well.
func lockName(f *os.File, path string) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return fmt.Errorf("%s is being written by another process", path)
	}
	if err != nil {
		return fmt.Errorf("locking %s: %w", path, err)
	}
	open, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(open, named) {
		return fmt.Errorf("%s was replaced by another process", path)
	}
	st, err := sys.Fstat(f)
	switch {
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%s is not a regular file: move it away", path)
	case st.Nlink > 1:
		return fmt.Errorf("%s has %d names (hard links), and what is written to it would be written to the others as well: give another name, or copy it", path, st.Nlink)
	}
	return nil
}

// rename gives a file a name that nobody has, durably.
func rename(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS { // this filesystem, or this kernel, has no such rename
		if _, err = os.Lstat(to); err == nil {
			err = unix.EEXIST
		} else if errors.Is(err, os.ErrNotExist) {
			err = os.Rename(from, to)
		}
	}
	if err == unix.EEXIST {
		return fmt.Errorf("%s was made meanwhile: move it away, and rename %s to it, which is whole", to, from)
	}
	if err != nil {
		return fmt.Errorf("renaming %s to %s: %w: it is whole, and only lacks its name", from, to, err)
	}
	return syncDirectory(filepath.Dir(to))
}

// syncDirectory makes what has happened to the names in a directory durable.
func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// deltaApply makes a target that holds the one volume hold the other.
func (s *session) deltaApply(ctx context.Context, args []string, destroy bool) error {
	if err := s.mayAnswer(args[1]); err != nil {
		return err
	}
	in, name, err := openStream(args[0])
	if err != nil {
		return err
	}
	defer in.Close()
	size, err := verify(in)
	if err != nil {
		return fmt.Errorf("%s: %w: nothing was written", name, err)
	}
	start := time.Now()
	r, err := delta.NewReader(bufio.NewReaderSize(in, delta.MaxData))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if args[1] == "-" {
		return s.applyToPipe(r, name, size)
	}
	ctx, stop := untilEnded(ctx)
	defer stop()
	t, err := openTarget(args[1], r.Header(), destroy)
	if errors.Is(err, errHolds) {
		// To the end all the same: whoever writes to a pipe is not hung up on, and what is in
		// it may be damaged.
		if err := eachRecord(r, func(delta.Record) error { return nil }); err != nil {
			return fmt.Errorf("%s: %w: nothing was written", name, err)
		}
		if s.json {
			return printJSON(s.out, written{Path: args[1], Key: r.Header().To})
		}
		return s.tell("%s holds volume %s already: nothing was written", args[1], r.Header().To)
	}
	if err != nil {
		return err
	}
	defer t.close()
	wrote, err := endable(ctx, func() (wrote int64, err error) {
		p := newProgress("applying", size)
		defer p.end()
		err = eachRecord(r, func(rec delta.Record) error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			wrote += int64(len(rec.Data))
			p.reach(r.Position())
			return t.put(rec)
		})
		if err == nil {
			err = t.finish()
		}
		return wrote, err
	})
	if err != nil {
		return fmt.Errorf("%s: %w: %s is incomplete now: apply a whole copy of the same stream to %s", name, err, t.name(), args[1])
	}
	if err := t.publish(); err != nil {
		return err
	}
	if s.json {
		return printJSON(s.out, written{Path: args[1], Key: t.header.To, Bytes: wrote, Seconds: time.Since(start).Seconds()})
	}
	return s.tell("%s holds volume %s: %s, of which %s were written in %v", args[1], t.header.To, s.bytes(t.header.ToSize), s.bytes(wrote), time.Since(start).Round(time.Millisecond))
}

// applyToPipe writes the disk that a full stream is of: its records come in order, and leave
// nothing out.
func (s *session) applyToPipe(r *delta.Reader, name string, size int64) error {
	h := r.Header()
	if !h.Full() {
		return fmt.Errorf("%s is what has changed since volume %s, and standard output holds nothing: apply it to a file that does", name, h.From)
	}
	to, err := openStdout(s.out)
	if err != nil {
		return err
	}
	start, p := time.Now(), newProgress("applying", size)
	err = eachRecord(r, func(rec delta.Record) error {
		p.reach(r.Position())
		if rec.Data == nil {
			return to.Zeros(rec.Length)
		}
		_, err := to.Write(rec.Data)
		return err
	})
	p.end()
	if err == nil {
		err = to.End()
	}
	if err != nil {
		return fmt.Errorf("%s: %w: what was written to standard output is incomplete", name, err)
	}
	return said(s.out, "-", "volume %s, %s in %v", h.To, s.bytes(h.ToSize), time.Since(start).Round(time.Millisecond))
}

// openStream opens what a stream is read from, and says what to call it.
func openStream(path string) (*os.File, string, error) {
	if path == "-" {
		if term.IsTerminal(int(os.Stdin.Fd())) {
			return nil, "", errors.New("standard input is a terminal: give a file, or a pipe from another program")
		}
		return os.Stdin, "standard input", nil
	}
	f, err := os.Open(path)
	return f, path, err
}

// deltaVerify reads a whole stream, and says what it is.
func (s *session) deltaVerify(args []string) error {
	in, name, err := openStream(args[0])
	if err != nil {
		return err
	}
	defer in.Close()
	size := int64(0) // of a pipe nobody knows
	if st, err := in.Stat(); err == nil {
		size = st.Size()
	}
	h, err := readWhole(in, size)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if s.json {
		return printJSON(s.out, struct {
			Path  string          `json:"path"`
			Key   repository.Key  `json:"key"`
			Since *repository.Key `json:"since"` // null: it is all of the volume
			Size  int64           `json:"size"`  // of the volume, in bytes
		}{name, h.To, sinceOf(h), h.ToSize})
	}
	since := "all of it"
	if !h.Full() {
		since = "what has changed since volume " + string(h.From)
	}
	return s.tell("%s is whole: volume %s, %s, %s", name, h.To, s.bytes(h.ToSize), since)
}

// sinceOf is the volume from which a stream begins, nil if from none.
func sinceOf(h delta.Header) *repository.Key {
	if h.Full() {
		return nil
	}
	return &h.From
}

// verify reads a whole stream before anything is written, if it can be read twice.
func verify(in *os.File) (size int64, err error) {
	st, err := in.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return 0, err
	}
	begin, err := in.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if _, err := readWhole(in, st.Size()); err != nil {
		return st.Size(), err
	}
	_, err = in.Seek(begin, io.SeekStart)
	return st.Size(), err
}

// readWhole reads a stream of size bytes to its end, for nothing but its checksums.
func readWhole(in io.Reader, size int64) (delta.Header, error) {
	p := newProgress("verifying", size)
	defer p.end()
	r, err := delta.NewReader(bufio.NewReaderSize(in, delta.MaxData))
	if err != nil {
		return delta.Header{}, err
	}
	return r.Header(), eachRecord(r, func(delta.Record) error { p.reach(r.Position()); return nil })
}

// eachRecord reads the records of a stream, to its end.
func eachRecord(r *delta.Reader, do func(delta.Record) error) error {
	for {
		rec, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = do(rec)
		}
		if err != nil {
			return err
		}
	}
}
