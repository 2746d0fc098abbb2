package image

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
)

// Writable are the formats that can be written.
var Writable = []string{"raw", "qcow2", "vhd"}

// NewWriter makes an image of a disk of so many bytes in an empty file.
func NewWriter(f *os.File, format string, size int64) (Writer, error) {
	switch format {
	case "raw":
		return &rawWriter{f: &appended{File: f}, size: size}, nil
	case "qcow2":
		return newQcow2Writer(f, size)
	case "vhd":
		return newVHDWriter(f, size)
	}
	return nil, fault.Errorf(fault.ErrInvalid, format, "%q is no format that can be written: %s are", fault.Shorten(format), strings.Join(Writable, ", "))
}

// rawWriter leaves a hole for zeros.
type rawWriter struct {
	f        *appended
	at, size int64
	written  sys.Writeback
}

func (w *rawWriter) Write(p []byte) (int, error) {
	n, err := w.f.WriteAt(p, w.at)
	w.at += int64(n)
	w.written.Wrote(w.f.File, w.at)
	return n, err
}

func (w *rawWriter) Zeros(n int64) error {
	w.at += n
	return nil
}

func (w *rawWriter) End() error {
	if err := whole(w.at, w.size); err != nil {
		return err
	}
	if err := w.f.Truncate(w.size); err != nil {
		return err
	}
	return w.f.Sync()
}

// whole refuses an end before the end.
func whole(at, size int64) error {
	if at != size {
		return fmt.Errorf("the disk's data end after %d of %d bytes", at, size)
	}
	return nil
}

// pieces gives the parts of what is written to a disk at an offset that no border of a cluster parts, and whether each is zeros.
func pieces(p []byte, at, cluster int64, do func(piece []byte, at int64, zero bool) error) error {
	for len(p) > 0 {
		n := min(int64(len(p)), cluster-at%cluster)
		if err := do(p[:n], at, isZero(p[:n])); err != nil {
			return err
		}
		p, at = p[n:], at+n
	}
	return nil
}

func isZero(p []byte) bool {
	for len(p) > 0 {
		n := min(len(p), len(nothing))
		if !bytes.Equal(p[:n], nothing[:n]) {
			return false
		}
		p = p[n:]
	}
	return true
}

// batch writes what is next to one another at once.
type batch struct {
	f     *appended
	at    int64
	first []byte // which grows over what follows it in memory
	done  sys.Writeback
}

// add takes a piece of p, which begins at an index of that.
func (b *batch) add(p []byte, from, to int, at int64) error {
	if b.first != nil && b.at+int64(len(b.first)) == at && &p[from-1] == &b.first[len(b.first)-1] {
		b.first = b.first[:len(b.first)+to-from]
		return nil
	}
	if err := b.flush(); err != nil {
		return err
	}
	b.at, b.first = at, p[from:to]
	return nil
}

func (b *batch) flush() error {
	first := b.first
	b.first = nil
	if len(first) == 0 {
		return nil
	}
	_, err := b.f.WriteAt(first, b.at)
	b.done.Wrote(b.f.File, b.at+int64(len(first)))
	return err
}
