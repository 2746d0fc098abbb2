package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/image"
	"reflinksr/internal/repository"
	"reflinksr/internal/units"
)

// noting is the sink of an image in a file that is not whole yet. Of a volume that cannot change, it notes on the way how much is
// durable: from there the same export goes on, whatever interrupted it.
type noting struct {
	image.Writer
	f       *os.File
	of      noteOf
	changes bool // the volume may hold something else the next time

	since  int64      // bytes that were written after what was noted last
	making chan error // a note that is being made; nil: none is
	begun  bool
}

// noteOf is what is noted: of what, and how much of it is durable. A volume that cannot be written to is another one all the same
// when its file is.
type noteOf struct {
	Key     repository.Key   `json:"key"`
	Inode   uint64           `json:"inode"`
	Written int64            `json:"written"` // when the volume's file was, in nanoseconds
	There   image.Checkpoint `json:"there"`
}

// noteEvery is how much is written between two notes, in bytes: so much is written again after an interruption.
const noteEvery = 64 << 20

// noteFor is what the notes say of a volume.
func (s *session) noteFor(v repository.Volume) (noteOf, error) {
	var st unix.Stat_t
	path := s.pathOf(v)
	if err := unix.Stat(path, &st); err != nil {
		return noteOf{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return noteOf{Key: v.Key, Inode: st.Ino, Written: st.Mtim.Nano()}, nil
}

// begin goes on with what an interrupted export of the same left, or begins anew and says why.
func (n *noting) begin(ctx context.Context, format string, size int64) (repository.Sink, int64, error) {
	st, err := n.f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if st.Size() > 0 {
		c, why := n.left(format, size)
		if why == "" {
			err := withProgress(ctx, "verifying", func(moved func(done, total int64)) (err error) {
				n.Writer, err = image.Continue(ctx, n.f, c, moved)
				return err
			})
			if err == nil {
				fmt.Fprintf(messages, "%s holds the first %s of the disk's %s: going on there\n", n.f.Name(), units.Bytes(c.At), units.Bytes(size))
				n.begun = true
				return n, c.At, nil
			}
			if !errors.Is(err, image.ErrOther) {
				return nil, 0, err
			}
			why = err.Error()
		}
		fmt.Fprintf(messages, "%s: %s: beginning anew\n", n.f.Name(), why)
	}
	if err := n.forget(); err != nil {
		return nil, 0, err
	}
	if err := n.f.Truncate(0); err != nil {
		return nil, 0, err
	}
	if n.Writer, err = image.NewWriter(n.f, format, size); err != nil {
		return nil, 0, err
	}
	n.begun = true
	return n, 0, nil
}

// left is from where can be gone on, as far as the note tells, or why it cannot.
func (n *noting) left(format string, size int64) (c image.Checkpoint, why string) {
	if n.changes {
		return c, "the disk can be written to, and may have changed"
	}
	note, err := readNote(n.note())
	c = note.There
	switch {
	case errors.Is(err, os.ErrNotExist):
		return c, "nothing is noted of what it holds"
	case err != nil:
		return c, err.Error()
	case note.Key != n.of.Key:
		return c, "it is of another volume"
	case note.Inode != n.of.Inode || note.Written != n.of.Written:
		return c, "the volume has another file by now"
	case c.Format != format || c.Size != size:
		return c, "it is of another format or size"
	}
	return c, ""
}

// Write notes now and then what is durable, without having the copy wait for that.
func (n *noting) Write(p []byte) (int, error) {
	written, err := n.Writer.Write(p)
	n.since += int64(written)
	if err != nil || n.changes || n.since < noteEvery {
		return written, err
	}
	select {
	case err := <-n.making:
		n.making = nil
		if err != nil {
			return written, err
		}
	default:
	}
	if n.making != nil {
		return written, nil
	}
	note := n.of
	note.There = n.Checkpoint()
	// Tables grow with the disk; not the part that they are of what is written.
	if n.since/64 < int64(len(note.There.Layout.Table)+8*len(note.There.Layout.Tables)) {
		return written, nil
	}
	making := make(chan error, 1)
	go func() {
		err := unix.Fdatasync(int(n.f.Fd()))
		if err == nil {
			err = writeNote(n.note(), note)
		}
		if err != nil {
			err = fmt.Errorf("noting how much of %s is durable: %w", n.f.Name(), err)
		}
		making <- err
	}()
	n.making, n.since = making, 0
	return written, nil
}

// End waits for the last note: nobody is to write one when the image is whole.
func (n *noting) End() error {
	if n.making != nil {
		if err := <-n.making; err != nil {
			return err
		}
	}
	return n.Writer.End()
}

// abandoned says how to go on, and leaves nothing that is of no use for that.
func (n *noting) abandoned(err error) error {
	switch {
	case n.begun && isThere(n.note()): // what it tells of was durable before
		return goesOn(err, n.f.Name())
	case n.begun && n.changes:
		err = fault.Hint(err, "the same command begins anew, for the disk may have changed: an export of a snapshot would go on")
	case n.begun:
		err = fault.Hint(err, "too little was written to go on with: the same command begins anew")
	}
	os.Remove(n.f.Name())
	return err
}

// goesOn says of an error that all is not lost.
func goesOn(err error, partial string) error {
	return fmt.Errorf("%w; what was written is in %s, and the same command goes on there", err, partial)
}

// note is the name of the note.
func (n *noting) note() string { return n.f.Name() + ".note" }

// forget removes the note.
func (n *noting) forget() error {
	if err := os.Remove(n.note()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// A note is a line of JSON and a line with the CRC-32C of that.
func writeNote(path string, note noteOf) (err error) {
	text, err := json.Marshal(note)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	text = fmt.Appendf(text, "%08x\n", crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)))
	return replace(path, func(to io.Writer) error {
		_, err := to.Write(text)
		return err
	})
}

// noteMost is how long a note can be, in bytes: with the tables of the largest disk.
const noteMost = 64 << 20

func readNote(path string) (note noteOf, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return note, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, noteMost))
	if err != nil {
		return note, err
	}
	line, sum, _ := bytes.Cut(text, []byte("\n"))
	if string(sum) != fmt.Sprintf("%08x\n", crc32.Checksum(append(bytes.Clone(line), '\n'), crc32.MakeTable(crc32.Castagnoli))) {
		return note, fmt.Errorf("%s is damaged", path)
	}
	if err := json.Unmarshal(line, &note); err != nil {
		return note, fmt.Errorf("%s is no note of an export: %w", path, err)
	}
	return note, nil
}
