package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"reflinksr/cmd/internal/delta"
	"reflinksr/snapshot"
	"reflinksr/volume"
)

func deltaCmd(args []string, out io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	switch args[0] {
	case "export":
		return deltaExport(args[1:], out)
	case "apply":
		return deltaApply(args[1:], out)
	case "verify":
		return deltaVerify(args[1:], out)
	}
	return errUsage
}

// deltaExport writes what a volume has that a snapshot has not, or all of it.
func deltaExport(args []string, out io.Writer) error {
	args, err := parse("delta", args, 3, 4, noFlags)
	if err != nil {
		return err
	}
	handle, err := handleOf(args[0])
	if err != nil {
		return err
	}
	from, to, path := "", args[1], args[2]
	if len(args) == 4 {
		from, to, path = args[1], args[2], args[3]
	}
	if from == "-" {
		from = ""
	}
	if path != "-" {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s exists already", path)
		}
	}
	start := time.Now()
	d, err := snapshot.DeltaOf(handle, from, to)
	if err != nil {
		return err
	}
	defer d.Data.Close()
	if path == "-" {
		return exportToPipe(d, out)
	}
	if err := exportToFile(d, path); err != nil {
		return err
	}
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: %s in %v\n", path, volume.Bytes(st.Size()), time.Since(start).Round(time.Millisecond))
	return err
}

func exportToPipe(d *snapshot.Delta, out io.Writer) error {
	if t, ok := out.(terminal); ok {
		out = t.Writer // no text, so that nothing may be taken from it
	}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return errors.New("a stream is nothing for a terminal: give a file, or a pipe to another program")
	}
	b := bufio.NewWriterSize(out, delta.MaxData)
	w, err := delta.NewWriter(b, headerOf(d))
	if err == nil {
		err = writeDelta(w, d)
	}
	if err == nil {
		err = b.Flush()
	}
	return err
}

func headerOf(d *snapshot.Delta) delta.Header {
	return delta.Header{From: d.From, To: d.To, FromSize: d.FromSize, ToSize: d.ToSize}
}

// exportToFile writes beside the file, and gives it its name when it is whole. What an
// interrupted export left is continued.
func exportToFile(d *snapshot.Delta, path string) error {
	f, err := openPartial(path)
	if err != nil {
		return err
	}
	defer f.Close()
	partial := f.Name()
	b := bufio.NewWriterSize(f, delta.MaxData)
	w, err := continueExport(f, b, d)
	if err != nil {
		return fmt.Errorf("%s: %w", partial, err)
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
	if err != nil {
		if !d.ReadWrite {
			err = fmt.Errorf("%w; what was written is in %s, and the same command continues there", err, partial)
		}
		return err
	}
	return rename(partial, path)
}

// openPartial opens what a file is called until it is whole, made if absent, for nobody
// else to write meanwhile.
func openPartial(target string) (*os.File, error) {
	name := target + ".partial"
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
func continueExport(f *os.File, b *bufio.Writer, d *snapshot.Delta) (*delta.Writer, error) {
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
		rec, err := r.Next()
		if err == io.EOF {
			return nil, nil
		}
		if err != nil {
			if !errors.As(err, new(*delta.Damage)) {
				return nil, err
			}
			return r.Continue(b), restart(f, r.Position())
		}
		p.add(int64(len(rec.Data)))
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
func writeDelta(w *delta.Writer, d *snapshot.Delta) error {
	total, unit := int64(0), d.Changed.BlockSize
	for _, r := range d.Changed.Ranges {
		total += r[1] * unit
	}
	p := newProgress("exporting", total)
	defer p.end()
	for _, r := range d.Changed.Ranges {
		start, end := r[0]*unit, min((r[0]+r[1])*unit, d.ToSize)
		if done := min(max(start, w.End()), end); done > start {
			p.add(done - start)
			start = done
		}
		if err := writeRange(w, d.Data, start, end, p); err != nil {
			return err
		}
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
			p.add(data - start)
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
// still has its name.
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
	return nil
}

// rename gives a file a name that nobody has, durably.
func rename(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("%s was made meanwhile: move it away, and rename %s to it, which is whole", to, from)
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// deltaApply makes a target that holds the one volume hold the other.
func deltaApply(args []string, out io.Writer) error {
	destroy := false
	args, err := parse("delta", args, 2, 2, func(f *flag.FlagSet) { f.BoolVar(&destroy, "overwrite", false, "") })
	if err != nil {
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
	t, err := openTarget(args[1], r.Header(), destroy)
	if err != nil {
		return err
	}
	defer t.close()
	p, written := newProgress("applying", size), int64(0)
	err = eachRecord(r, func(rec delta.Record) error {
		written += int64(len(rec.Data))
		p.add(int64(len(rec.Data)))
		return t.put(rec)
	})
	p.end()
	if err == nil {
		err = t.finish()
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s is incomplete now: apply a whole copy of the same stream to %s", name, err, t.name(), args[1])
	}
	_, err = fmt.Fprintf(out, "%s holds volume %s: %s, of which %s were written in %v\n", args[1], t.header.To, volume.Bytes(t.header.ToSize), volume.Bytes(written), time.Since(start).Round(time.Millisecond))
	return err
}

// openStream opens what a stream is read from, and says what to call it.
func openStream(path string) (*os.File, string, error) {
	if path == "-" {
		return os.Stdin, "standard input", nil
	}
	f, err := os.Open(path)
	return f, path, err
}

// deltaVerify reads a whole stream, and says what it is.
func deltaVerify(args []string, out io.Writer) error {
	args, err := parse("delta", args, 1, 1, noFlags)
	if err != nil {
		return err
	}
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
	since := "all of it"
	if !h.Full() {
		since = "what has changed since volume " + string(h.From)
	}
	_, err = fmt.Fprintf(out, "%s is whole: volume %s, %s, %s\n", name, h.To, volume.Bytes(h.ToSize), since)
	return err
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
	return r.Header(), eachRecord(r, func(rec delta.Record) error { p.add(int64(len(rec.Data))); return nil })
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
