package volume

import (
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"reflinksr/internal/filesystem"
	"reflinksr/internal/units"
	"reflinksr/sr"
)

// Warning is a sentence for the operator when the volumes' guests could write
// more than the filesystem has left, else "". It is an upper bound: a volume that
// shares blocks with a relative is taken to share them all, since finding out
// costs a walk over its extents.
func Warning(s *sr.SR) string {
	_, free, err := filesystem.Space(s.Root)
	if err != nil {
		return ""
	}
	keys, err := Keys(s)
	if err != nil || allFit(s, keys, free) {
		return ""
	}
	need := mayWrite(demands(s, keys))
	if need <= free {
		return ""
	}
	return "overcommitted: guests may still write up to " + units.Bytes(need) + ", " + units.Bytes(free) + " are free: add space, or destroy snapshots"
}

// allFit says whether all volumes would fit into what is free if none of them had anything yet, and all could be written to.
// Most SRs that are not thin are so, and no record has to be read for it.
func allFit(s *sr.SR, keys []sr.Key, free int64) bool {
	var units atomic.Int64 // of SizeUnit, of which no SR has too many for an int64
	var over atomic.Bool
	Parallel(len(keys), func(i int) {
		if over.Load() {
			return
		}
		st, err := s.Root.Stat(sr.Data(keys[i]))
		if err != nil || checkLength(keys[i], st) != nil || units.Add(RoundUp(st.Size)/SizeUnit) > free/SizeUnit {
			over.Store(true) // or nobody can tell without more looks
		}
	})
	return !over.Load()
}

// demand is what counts of a volume. The zero demand is of one that cannot be read.
type demand struct {
	key, of            sr.Key
	rw                 bool
	virtual, allocated int64
}

func demandOf(key sr.Key, r *Record, st *unix.Stat_t) demand {
	d := demand{key: key, rw: r.ReadWrite, virtual: RoundUp(st.Size), allocated: st.Blocks * 512}
	if r.Origin != nil {
		d.of = r.Origin.Of
	}
	return d
}

// demands reads the records.
func demands(s *sr.SR, keys []sr.Key) []demand {
	all := make([]demand, len(keys))
	eachPlain(s, keys, func(i int, r *Record, st *unix.Stat_t) { all[i] = demandOf(keys[i], r, st) })
	Parallel(len(keys), func(i int) {
		if all[i].key != "" {
			return
		}
		r, err := Load(s, keys[i])
		if err != nil {
			return
		}
		if st, err := StatData(s, keys[i]); err == nil {
			all[i] = demandOf(keys[i], r, st)
		}
	})
	return all
}

// mayWrite is how many bytes guests may still write.
func mayWrite(all []demand) (need int64) {
	relatives := map[sr.Key]bool{}
	for _, d := range all {
		if d.of != "" {
			relatives[d.key], relatives[d.of] = true, true
		}
	}
	for _, d := range all {
		if !d.rw {
			continue
		}
		own := d.allocated
		if relatives[d.key] {
			own = 0
		}
		if more := max(0, d.virtual-own); need > math.MaxInt64-more {
			need = math.MaxInt64
		} else {
			need += more
		}
	}
	return need
}
