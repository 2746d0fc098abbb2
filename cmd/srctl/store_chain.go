package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/catalogue"
	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
)

// lost says why a point cannot be restored: nil if nothing is known against it.
func (st *store) lost(p catalogue.Point) error { return st.lostAt(st.Find(p.Key)) }

// lostAt is lost by index. What it finds it keeps: every point needs those before.
func (st *store) lostAt(at int) error {
	if st.losses == nil {
		st.losses = map[int]error{}
	}
	var chain []int // without a loss that is known
	var err error
	for whole := false; !whole; {
		known := false
		if err, known = st.losses[at]; known {
			break
		}
		p := st.Points[at]
		st.losses[at] = nil // nobody says that they form no ring
		chain, whole = append(chain, at), p.Since == ""
		before := at
		if !whole {
			if at = st.Before(p.Since, at); at < 0 {
				err = fmt.Errorf("%s begins with volume %s, of which no stream is there", st.path(st.Points[before]), p.Since)
				break
			}
		}
	}
	for _, at := range slices.Backward(chain) {
		if err == nil {
			err = st.broken[st.Points[at].Key]
		}
		st.losses[at] = err
	}
	return err
}

// breaks notes what is wrong with a stream.
func (st *store) breaks(key repository.Key, err error) { st.broken[key], st.losses = err, nil }

// openChain opens the streams that make a point, and verifies all of them: what can be wrong with one is told with what is lost by it.
func (st *store) openChain(p catalogue.Point) (files []*os.File, err error) {
	if err := st.lost(p); err != nil {
		return nil, st.explainLoss(err)
	}
	defer func() {
		if err != nil {
			closeAll(files)
		}
	}()
	chain, _ := st.Chain(st.Find(p.Key))
	for _, link := range chain {
		f, err := os.OpenFile(st.path(link), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	for i, f := range files {
		if err := st.verify(f, chain[i]); err != nil {
			if st.broken[chain[i].Key] != nil {
				err = st.explainLoss(err)
			}
			return files, err
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// verify reads a stream to its end, and to its beginning again. What is wrong with it is noted.
func (st *store) verify(f *os.File, p catalogue.Point) error {
	h, err := readWhole(f, p.Bytes)
	if err == nil && (h.To != p.Key || h.From != p.Since || h.ToSize != p.Size) {
		err = &delta.Damage{Text: "it is the stream of another point"}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", f.Name(), err)
		if errors.As(err, new(*delta.Damage)) {
			st.breaks(p.Key, err)
		}
		return err
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// explainLoss says which points are lost by what is broken, and which is the last that is not.
func (st *store) explainLoss(err error) error {
	var lost []string
	last := ""
	for i, p := range st.Points {
		if st.lostAt(i) != nil {
			lost = append(lost, shownTime(p.At))
		} else {
			last = shownTime(p.At)
		}
	}
	if len(lost) > 1 {
		lost = []string{fmt.Sprintf("%d points, from %s to %s,", len(lost), lost[0], lost[len(lost)-1])}
	}
	if len(lost) == 0 {
		return err
	}
	err = fmt.Errorf("%w: by that %s cannot be restored", err, lost[0])
	if last == "" {
		return err
	}
	return fault.Hint(err, "the last point that nothing is known against is %s@%s", string(st.Disk)[:8], last)
}

// readersOf are readers of streams that were verified.
func readersOf(files []*os.File) (readers []*delta.Reader, err error) {
	for _, f := range files {
		r, err := delta.NewReader(bufio.NewReaderSize(f, delta.MaxData))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		readers = append(readers, r)
	}
	return readers, nil
}
