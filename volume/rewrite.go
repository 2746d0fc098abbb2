package volume

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"reflinksr/internal/extent"
	"reflinksr/internal/reflink"
	"reflinksr/internal/sys"
	"reflinksr/sr"
)

// rewrite gives the pieces of a file's extents blocks of their own, after which the extents are nobody's.
//
// Order: a copy of the pieces is made in a file without a name, at the same places, and fsynced; then the file is made
// to share the blocks of the copy, piece by piece, which the kernel does only where both hold the same bytes, with
// both locked; then the copy is closed, and gone. So wherever it stops, each piece is in its old blocks or in its new ones,
// the same bytes either way. What was shared with other files stays shared: compared with any, a piece was in other blocks before,
// and is in other blocks now. A hole stays a hole, and what is allocated and unwritten stays that: it hides what a composition
// would show.
func rewrite(s *sr.SR, f *os.File, extents []extent.Own) (done Compaction, err error) {
	st, err := sys.Fstat(f)
	if err != nil {
		return done, err
	}
	bare, err := reflink.Unchecked(f)
	if err != nil {
		return done, err
	}
	to, err := s.Staging.CreateNameless()
	if err != nil {
		return done, err
	}
	defer to.Close()
	if err := (reflink.Attributes{NoCOW: bare}).Apply(to); err != nil {
		return done, err
	}
	if err := to.Truncate(st.Size); err != nil {
		return done, err
	}
	pieces := inOrder(extents)
	buffer := make([]byte, pieceSize)
	for _, p := range pieces {
		if err := copyPiece(to, f, p, st.Size, buffer); err != nil {
			return done, err
		}
	}
	// Of what the pages of both files were read for nobody has any more use.
	defer unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	if err := to.Sync(); err != nil {
		return done, fmt.Errorf("writing its extents anew: %w", err)
	}
	takes, err := taken(to, pieces)
	if err != nil {
		return done, err
	}
	done = sum(extents)
	if done.GivesBack += done.Needs - takes; done.GivesBack <= 0 { // here they are compressed less
		return Compaction{Writes: done.Writes}, nil
	}
	for _, r := range joined(pieces) {
		if err := reflink.ShareAlike(f, to, r.Start, min(r.Length, st.Size-r.Start)); err != nil {
			return Compaction{}, err
		}
	}
	return done, nil
}

// inOrder lists the pieces of extents by their place in the file.
func inOrder(extents []extent.Own) (all []extent.Piece) {
	for _, o := range extents {
		all = append(all, o.Pieces...)
	}
	slices.SortFunc(all, func(a, b extent.Piece) int { return cmp.Compare(a.Start, b.Start) })
	return all
}

// joined makes one of pieces that touch.
func joined(pieces []extent.Piece) (all []extent.Piece) {
	for _, p := range pieces {
		if n := len(all); n > 0 && all[n-1].Start+all[n-1].Length == p.Start {
			all[n-1].Length += p.Length
			continue
		}
		all = append(all, p)
	}
	return all
}

// copyPiece writes a piece of a disk into a file, at the same place.
func copyPiece(to, from *os.File, p extent.Piece, size int64, buffer []byte) error {
	if p.Unwritten {
		return sys.Do(func() error {
			return unix.Fallocate(int(to.Fd()), unix.FALLOC_FL_KEEP_SIZE, p.Start, p.Length)
		})
	}
	for at, end := p.Start, min(p.Start+p.Length, size); at < end; {
		some := buffer[:min(end-at, int64(len(buffer)))]
		if _, err := io.ReadFull(io.NewSectionReader(from, at, end-at), some); err != nil {
			return fmt.Errorf("reading %s at %d: %w", from.Name(), at, err)
		}
		if _, err := to.WriteAt(some, at); err != nil {
			return err
		}
		at += int64(len(some))
	}
	return nil
}

// taken is what a copy of pieces takes on the disk. All of it must be there: what is shared with a hole
// in it would be lost.
func taken(copied *os.File, pieces []extent.Piece) (takes int64, err error) {
	all, err := extent.OwnOf(copied, 0, 1<<63-1)
	if err != nil {
		return 0, err
	}
	missing := int64(0)
	for _, p := range pieces {
		missing += p.Length
	}
	for _, o := range all {
		takes += o.Size
		for _, p := range o.Pieces {
			missing -= p.Length
		}
	}
	if missing != 0 {
		return 0, fmt.Errorf("%s: %d bytes that were written to it are not on the disk: %w", copied.Name(), missing, unix.EIO)
	}
	return takes, nil
}
