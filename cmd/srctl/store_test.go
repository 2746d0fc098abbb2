package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reflinksr/cmd/internal/catalogue"
	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/repository"
)

const storeDisk repository.Key = "99999999-2222-4333-8444-555555555555"

// point writes a small stream into a directory of backups: of hour h of the first day, since that of another hour, all of the disk if
// that is negative.
func point(t *testing.T, dir string, h, since int) catalogue.Point {
	t.Helper()
	key := func(h int) repository.Key { return repository.Key(fmt.Sprintf("%08d-2222-4333-8444-555555555555", h)) }
	p := catalogue.Point{Key: key(h), At: time.Date(2026, 12, 1, h, 0, 0, 0, time.UTC), Size: delta.BlockSize}
	header := delta.Header{To: p.Key, ToSize: p.Size}
	if since >= 0 {
		p.Since = key(since)
		header.From, header.FromSize = p.Since, p.Size
	}
	var b bytes.Buffer
	w, err := delta.NewWriter(&b, header)
	if err == nil {
		err = errors.Join(w.Zeros(0, p.Size), w.Close())
	}
	p.File, p.Bytes = catalogue.FileName(p.At, p.Since, p.Key), int64(b.Len())
	if err := errors.Join(err, os.MkdirAll(filepath.Join(dir, string(storeDisk)), 0o700), os.WriteFile(filepath.Join(dir, string(storeDisk), p.File), b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return p
}

// opened are the hours of the points of a directory, those that are lost in brackets.
func opened(t *testing.T, dir string) (*store, string) {
	t.Helper()
	st, err := openStore(dir, storeDisk)
	if err != nil {
		t.Fatal(err)
	}
	var hours []string
	for i, p := range st.Points {
		hour := fmt.Sprint(p.At.Hour())
		if st.lostAt(i) != nil {
			hour = "(" + hour + ")"
		}
		hours = append(hours, hour)
	}
	return st, strings.Join(hours, " ")
}

// saved writes the catalogue of these points.
func saved(t *testing.T, dir string, points ...catalogue.Point) {
	t.Helper()
	st := &store{dir: filepath.Join(dir, string(storeDisk)), Catalogue: catalogue.Catalogue{ID: storeDisk, Disk: storeDisk, Points: points}}
	if err := st.save(); err != nil {
		t.Fatal(err)
	}
}

// A catalogue that is lost is made anew of the streams: in the order of their times, but none before the one that it begins with,
// which a clock that was put back has made later.
func TestStoreWithoutCatalogue(t *testing.T) {
	dir := t.TempDir()
	point(t, dir, 5, -1)
	point(t, dir, 6, 5)
	point(t, dir, 2, 6)
	point(t, dir, 3, 2)
	point(t, dir, 9, -1)
	point(t, dir, 11, 10)
	st, hours := opened(t, dir)
	if hours != "5 6 2 3 9 (11)" || !st.renewed {
		t.Errorf("the points are %s", hours)
	}
}

// The catalogue's order counts; what it does not know is added where its time is, which for one that somebody was killed before
// noting is the end.
func TestStoreAddsUnlisted(t *testing.T) {
	dir := t.TempDir()
	a, b, c := point(t, dir, 5, -1), point(t, dir, 3, 5), point(t, dir, 8, 3)
	saved(t, dir, a, b, c)
	point(t, dir, 9, 8)
	if _, hours := opened(t, dir); hours != "5 3 8 9" {
		t.Errorf("with one more the points are %s", hours)
	}
	point(t, dir, 1, -1)
	if st, hours := opened(t, dir); hours != "1 5 3 8 9" || st.renewed {
		t.Errorf("with an old one more the points are %s", hours)
	}
}

// What is not there, or is longer or shorter than it was, is lost, with what begins with it.
func TestStoreLosses(t *testing.T) {
	dir := t.TempDir()
	points := []catalogue.Point{point(t, dir, 1, -1), point(t, dir, 2, 1), point(t, dir, 3, 2), point(t, dir, 4, -1), point(t, dir, 5, 4), point(t, dir, 6, -1)}
	saved(t, dir, points...)
	st, hours := opened(t, dir)
	if hours != "1 2 3 4 5 6" {
		t.Fatal(hours)
	}
	if err := errors.Join(os.Remove(st.path(points[1])), os.Truncate(st.path(points[3]), 200)); err != nil {
		t.Fatal(err)
	}
	if _, hours := opened(t, dir); hours != "1 (2) (3) (4) (5) 6" {
		t.Errorf("the points are %s", hours)
	}
}

// What was to be removed is no point any more, also where somebody was killed before it was: the next one removes it.
func TestStoreRemovesForGood(t *testing.T) {
	dir := t.TempDir()
	points := []catalogue.Point{point(t, dir, 1, -1), point(t, dir, 2, 1), point(t, dir, 3, -1)}
	saved(t, dir, points...)
	st, _ := opened(t, dir)
	aside := t.TempDir()
	for _, p := range points[:2] {
		if err := os.Link(st.path(p), filepath.Join(aside, p.File)); err != nil {
			t.Fatal(err)
		}
	}
	st.Points, st.Removed = st.Points[2:], []string{points[0].File, points[1].File}
	if err := st.save(); err != nil { // and killed
		t.Fatal(err)
	}
	if st, hours := opened(t, dir); hours != "3" || st.sweep() != nil {
		t.Errorf("the points are %s", hours)
	}
	if _, err := os.Stat(st.path(points[0])); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a stream is left: %v", err)
	}
	// One that somebody brings back is a point again.
	for _, p := range points[:2] {
		if err := os.Link(filepath.Join(aside, p.File), st.path(p)); err != nil {
			t.Fatal(err)
		}
	}
	st, hours := opened(t, dir)
	if hours != "1 2 3" {
		t.Errorf("the points are %s", hours)
	}
	if err := st.remove(st.Points[:2]); err != nil {
		t.Fatal(err)
	}
	if names, err := filepath.Glob(filepath.Join(st.dir, "2026*")); err != nil || len(names) != 1 {
		t.Errorf("left are %q, %v", names, err)
	}
}

// What was written is read back to its end: a byte that is another, and the stream of other volumes, are found.
func TestReadBack(t *testing.T) {
	dir := t.TempDir()
	p := point(t, dir, 1, -1)
	h := delta.Header{To: p.Key, ToSize: p.Size}
	path := filepath.Join(dir, string(storeDisk), p.File)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := readBack(f, h, p.Bytes); err != nil {
		t.Error(err)
	}
	if err := readBack(f, delta.Header{To: storeDisk, ToSize: p.Size}, p.Bytes); err == nil {
		t.Error("the stream of another volume is taken for it")
	}
	for at := int64(0); at < p.Bytes; at += 7 {
		was := make([]byte, 1)
		if _, err := f.ReadAt(was, at); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{was[0] ^ 1}, at); err != nil {
			t.Fatal(err)
		}
		if err := readBack(f, h, p.Bytes); err == nil {
			t.Errorf("byte %d is another, and that is not found", at)
		}
		if _, err := f.WriteAt(was, at); err != nil {
			t.Fatal(err)
		}
	}
}
