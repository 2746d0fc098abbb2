package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/repository"
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
