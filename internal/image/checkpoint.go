package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
)

// Writer is a sink that makes an image, of which all is durable after End. What is interrupted can be gone on with, from a Checkpoint
// up to which the file was durable.
type Writer interface {
	Sink
	// Checkpoint is how far the image is written. There is none after End.
	Checkpoint() Checkpoint
	resume(c Checkpoint) error // goes on from there
}

// Checkpoint is how far an image is written.
type Checkpoint struct {
	Format string `json:"format"`
	Size   int64  `json:"size"` // of the disk, in bytes
	At     int64  `json:"at"`   // so many bytes of that are there
	End    int64  `json:"end"`  // in so many of the file, of which
	Sum    uint32 `json:"sum"`  // this is the CRC-32C
	Layout Layout `json:"layout"`
}

// Layout is what a format's writer has to remember.
type Layout struct {
	Next   int64    `json:"next"`
	Here   int64    `json:"here"`
	Host   int64    `json:"host"`
	Used   bool     `json:"used"`
	Tables []uint64 `json:"tables"`
	Table  []byte   `json:"table"`
}

// ErrOther says that a file does not hold what a checkpoint says of it.
var ErrOther = errors.New("it does not hold what was noted of it")

// Continue is NewWriter for a file that was written up to a checkpoint at least, which is read, and told of as it goes: ErrOther if
// it holds anything else, and then nothing was changed. What comes after the checkpoint is cut off.
func Continue(ctx context.Context, f *os.File, c Checkpoint, moved func(done, total int64)) (Writer, error) {
	w, err := NewWriter(f, c.Format, c.Size)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if c.At < 0 || c.At > c.Size || c.End < 0 || st.Size() < c.End {
		return nil, fmt.Errorf("%w: %d bytes are there, of %d", ErrOther, st.Size(), c.End)
	}
	sum, err := sumOf(ctx, f, c.End, moved)
	if err != nil {
		return nil, err
	}
	if sum != c.Sum {
		return nil, fmt.Errorf("%w: the checksum is another", ErrOther)
	}
	if err := w.resume(c); err != nil {
		return nil, err
	}
	return w, f.Truncate(c.End)
}

func (w *rawWriter) Checkpoint() Checkpoint {
	return Checkpoint{Format: "raw", Size: w.size, At: w.at, End: w.f.end, Sum: w.f.sum}
}

func (w *rawWriter) resume(c Checkpoint) error {
	w.at, w.f.end, w.f.sum = c.At, c.End, c.Sum
	return nil
}

func (w *qcow2Writer) Checkpoint() Checkpoint {
	l := Layout{Next: w.next, Here: w.here, Host: w.host, Used: w.used, Tables: slices.Clone(w.l1), Table: slices.Clone(w.l2)}
	return Checkpoint{Format: "qcow2", Size: w.disk, At: w.at, End: w.f.end, Sum: w.f.sum, Layout: l}
}

func (w *qcow2Writer) resume(c Checkpoint) error {
	l := c.Layout
	// The table of what has just been filled may not be written yet.
	if missing := c.At/w.covers() - int64(len(l.Tables)); len(l.Table) != len(w.l2) || missing < 0 || missing > 1 || l.Next < w.next {
		return fmt.Errorf("%w: its tables cannot be right", ErrOther)
	}
	w.at, w.f.end, w.f.sum = c.At, c.End, c.Sum
	w.next, w.here, w.host, w.used, w.l1, w.l2 = l.Next, l.Here, l.Host, l.Used, l.Tables, l.Table
	return nil
}

func (w *vhdWriter) Checkpoint() Checkpoint {
	l := Layout{Next: w.next, Here: w.here, Host: w.host, Table: slices.Clone(w.table)}
	return Checkpoint{Format: "vhd", Size: w.disk, At: w.at, End: w.f.end, Sum: w.f.sum, Layout: l}
}

func (w *vhdWriter) resume(c Checkpoint) error {
	l := c.Layout
	if len(l.Table) != len(w.table) || l.Next < w.next {
		return fmt.Errorf("%w: its tables cannot be right", ErrOther)
	}
	w.at, w.f.end, w.f.sum = c.At, c.End, c.Sum
	w.next, w.here, w.host, w.table = l.Next, l.Here, l.Host, l.Table
	return nil
}
