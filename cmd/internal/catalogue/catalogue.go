// Package catalogue is the file that tells what srctl backup has in a directory: which points in time of a disk, and which of them
// follow which. It is told by the streams themselves as well, all but what people call the disk; so one that is lost can be made anew.
package catalogue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"time"

	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/repository"
)

const (
	// Name is what the file is called.
	Name = "catalogue.json"

	// Limit is the most that the file can have, in bytes.
	Limit = 16 << 20

	version = 1
	most    = 30_000 // points
)

// ErrVersion is for a catalogue of a version that is not known here.
var ErrVersion = errors.New("a catalogue of another version")

// Catalogue is what there is of one disk.
type Catalogue struct {
	Format     int            `json:"format"`
	ID         repository.Key `json:"id"` // the snapshots that are made for this backup carry it
	Disk       repository.Key `json:"disk"`
	Name       string         `json:"name"`
	SR         string         `json:"sr"`          // its UUID, "" if that is not known any more
	SectorSize int            `json:"sector_size"` // bytes, 0 if that is not known any more
	Points     []Point        `json:"points"`      // in the order in which they were made
	Removed    []string       `json:"removed"`     // streams that are no points any more, and may still be there
}

// Point is a moment of the disk.
type Point struct {
	Key   repository.Key `json:"key"`   // of the snapshot that it was
	Since repository.Key `json:"since"` // of the one from which its stream begins, "" if that is of all of the disk
	At    time.Time      `json:"at"`
	Size  int64          `json:"size"`  // of the disk, in bytes
	Bytes int64          `json:"bytes"` // of the stream
	File  string         `json:"file"`
}

// stamp is a time in the name of a file: one that every filesystem takes.
const stamp = "20060102T150405Z"

// FileName is what the stream of a point is called.
func FileName(at time.Time, since, key repository.Key) string {
	kind := "delta"
	if since == "" {
		kind = "full"
	}
	return fmt.Sprintf("%s-%s.%s", at.UTC().Format(stamp), key[:8], kind)
}

var fileName = regexp.MustCompile(`^([0-9]{8}T[0-9]{6}Z)-[0-9a-f]{8}\.(full|delta)$`)

// PointOf is what the name and the header of a stream tell of its point, if that is a name of such.
func PointOf(file string, bytes int64, h delta.Header) (Point, error) {
	at, err := TimeOf(file)
	p := Point{Key: h.To, Since: h.From, At: at, Size: h.ToSize, Bytes: bytes, File: file}
	if err == nil && FileName(at, p.Since, p.Key) != file {
		err = fmt.Errorf("its name is not that of the stream of volume %s that is in it", p.Key)
	}
	return p, err
}

// IsFileName says whether a stream of a backup can be called so.
func IsFileName(file string) bool { _, err := TimeOf(file); return err == nil }

// TimeOf is the time in the name of a stream.
func TimeOf(file string) (time.Time, error) {
	m := fileName.FindStringSubmatch(file)
	if m == nil {
		return time.Time{}, errors.New("it is not called as the streams of a backup are")
	}
	return time.Parse(stamp, m[1])
}

// Read reads a catalogue, of which nothing is trusted.
func Read(r io.Reader) (*Catalogue, error) {
	data, err := io.ReadAll(io.LimitReader(r, Limit+1))
	if err != nil {
		return nil, err
	}
	if len(data) > Limit {
		return nil, fmt.Errorf("it has more than %d bytes", Limit)
	}
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, err
	}
	if head.Format != version {
		return nil, fmt.Errorf("%w: %d, this program knows %d: use the program that wrote it, or a newer one", ErrVersion, head.Format, version)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	c := new(Catalogue)
	if err := d.Decode(c); err != nil {
		return nil, err
	}
	return c, c.check()
}

// check refuses what is no catalogue of ours.
func (c *Catalogue) check() error {
	for _, key := range []repository.Key{c.ID, c.Disk} {
		if _, err := repository.ParseKey(string(key)); err != nil {
			return err
		}
	}
	if len(c.Points) > most || len(c.Removed) > most {
		return fmt.Errorf("it has %d points, at most %d are possible: keep fewer", len(c.Points), most)
	}
	if c.SectorSize != 0 && c.SectorSize != 512 && c.SectorSize != 4096 {
		return fmt.Errorf("sectors of %d bytes cannot be", c.SectorSize)
	}
	seen := map[repository.Key]bool{}
	for i, p := range c.Points {
		if err := p.check(); err != nil {
			return fmt.Errorf("point %d: %w", i+1, err)
		}
		if seen[p.Key] {
			return fmt.Errorf("point %d: %s is there twice", i+1, p.Key)
		}
		seen[p.Key] = true
	}
	for _, file := range c.Removed {
		if !IsFileName(file) {
			return fmt.Errorf("it has %q removed, which is no stream's name", file)
		}
	}
	return nil
}

func (p Point) check() error {
	if _, err := repository.ParseKey(string(p.Key)); err != nil {
		return err
	}
	if p.Since != "" {
		if _, err := repository.ParseKey(string(p.Since)); err != nil {
			return err
		}
	}
	switch {
	case p.Size < 0 || p.Size > delta.MaxSize || p.Bytes < 0:
		return fmt.Errorf("a stream of %d bytes of a disk of %d", p.Bytes, p.Size)
	case !IsFileName(p.File) || FileName(p.At, p.Since, p.Key) != p.File:
		return fmt.Errorf("its file is called %q, and not %q", p.File, FileName(p.At, p.Since, p.Key))
	}
	return nil
}

// Write writes a catalogue that Read takes.
func (c *Catalogue) Write(w io.Writer) error {
	c.Format = version
	if c.Points == nil {
		c.Points = []Point{}
	}
	if c.Removed == nil {
		c.Removed = []string{}
	}
	if err := c.check(); err != nil {
		return err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	if err := e.Encode(c); err != nil {
		return err
	}
	if b.Len() > Limit {
		return fmt.Errorf("it would have %d bytes, at most %d are possible", b.Len(), Limit)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Find is where the point with a key is, -1 if there is none.
func (c *Catalogue) Find(key repository.Key) int { return c.Before(key, len(c.Points)) }

// Chain is the streams that make the point at an index, from that of a whole disk on; whole is false if one of them is not there.
func (c *Catalogue) Chain(at int) (chain []Point, whole bool) {
	for at >= 0 && len(chain) < len(c.Points) && !whole { // nobody says that they form no ring
		p := c.Points[at]
		chain, whole = append(chain, p), p.Since == ""
		if !whole {
			at = c.Before(p.Since, at)
		}
	}
	slices.Reverse(chain)
	return chain, whole
}

// Before finds a point by its key, at which one at an index begins: most are the one before that. It is -1 if there is none.
func (c *Catalogue) Before(key repository.Key, at int) int {
	for i := range c.Points {
		if i = (at - 1 - i + len(c.Points)) % len(c.Points); c.Points[i].Key == key {
			return i
		}
	}
	return -1
}
