package cbt

import (
	"cmp"
	"slices"
	"time"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/sr"
	"reflinksr/volume"
)

// ancestry is a volume and what it comes from, and that comes from …, as far as there
// are records; the last may be no more.
func ancestry(s *sr.SR, key sr.Key) ([]sr.Key, error) {
	line := []sr.Key{key}
	for {
		r, err := volume.Load(s, line[len(line)-1])
		if fault.Unseen(err) {
			return nil, err // who has it for an ancestor would seem to be no relative
		}
		if err != nil || r.Origin == nil || slices.Contains(line, r.Origin.Of) {
			return line, nil
		}
		if _, err := sr.ParseKey(string(r.Origin.Of)); err != nil {
			return line, nil
		}
		line = append(line, r.Origin.Of)
	}
}

// kin says whether two lines have an ancestor in common.
func kin(a, b []sr.Key) bool {
	return slices.ContainsFunc(a, func(k sr.Key) bool { return slices.Contains(b, k) })
}

// SimilarContent lists the volumes that come from the same volume as key does, nearest
// first: by the number of snapshots, clones and copies between the two, then by how many
// volumes were made in between. Volumes without data are left out.
func SimilarContent(handle string, key sr.Key) ([]sr.Key, error) {
	s, err := sr.Open(handle, dirfs.Unlocked)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	own, err := volume.Load(s, key)
	if err != nil {
		return nil, err
	}
	keys, err := volume.Keys(s)
	if err != nil {
		return nil, err
	}
	records, next := map[sr.Key]*volume.Record{}, map[sr.Key][]sr.Key{}
	for _, other := range keys {
		r, err := volume.Load(s, other)
		if fault.Unseen(err) {
			return nil, err
		}
		if err != nil {
			continue // gone meanwhile, or damaged and so similar to nothing
		}
		records[other] = r
		if r.Origin != nil {
			next[other] = append(next[other], r.Origin.Of)
			next[r.Origin.Of] = append(next[r.Origin.Of], other)
		}
	}
	similar, seen := []sr.Key{}, map[sr.Key]bool{key: true}
	for ring := []sr.Key{key}; len(ring) > 0; {
		var further []sr.Key
		for _, from := range ring {
			for _, to := range next[from] {
				if !seen[to] {
					seen[to], further = true, append(further, to)
				}
			}
		}
		slices.SortFunc(further, func(a, b sr.Key) int {
			return cmp.Or(nearer(own, records[a], records[b]), cmp.Compare(a, b))
		})
		for _, other := range further {
			if r := records[other]; r != nil && !r.DataDestroyed {
				similar = append(similar, other)
			}
		}
		ring = further
	}
	return similar, nil
}

// nearer compares how far two volumes were made from own: by what was made in between,
// and among those without a number, which come after all others, by time. Either may be
// nil.
func nearer(own, a, b *volume.Record) int {
	x, numberedX := between(own, a)
	y, numberedY := between(own, b)
	switch {
	case numberedX && numberedY:
		return cmp.Compare(x, y)
	case numberedX:
		return -1
	case numberedY:
		return 1
	}
	return cmp.Compare(apart(own, a), apart(own, b))
}

// between is how many numbers lie between two volumes, if both have one.
func between(a, b *volume.Record) (n int64, numbered bool) {
	if b == nil || a.Sequence == 0 || b.Sequence == 0 {
		return 0, false
	}
	n = int64(a.Sequence - b.Sequence)
	return max(n, -n), true
}

// apart is how much time lies between the making of two volumes.
func apart(a, b *volume.Record) time.Duration {
	if b == nil {
		return 0
	}
	return a.Created.Sub(b.Created).Abs()
}
