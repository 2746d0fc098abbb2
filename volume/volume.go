package volume

import (
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/sr"
)

// Volume is what the protocol calls volume.
type Volume struct {
	Key                 sr.Key            `json:"key"`
	UUID                string            `json:"uuid"`
	Name                string            `json:"name"`
	Description         string            `json:"description"`
	ReadWrite           bool              `json:"read_write"`
	Sharable            bool              `json:"sharable"`
	VirtualSize         int64             `json:"virtual_size"`         // bytes
	PhysicalUtilisation int64             `json:"physical_utilisation"` // bytes allocated, shared ones included
	URI                 []string          `json:"uri"`
	Keys                map[string]string `json:"keys"`
	VolumeType          string            `json:"volume_type,omitempty"` // CBTMetadata, or "" for Data
	CBTEnabled          bool              `json:"cbt_enabled"`
}

// CBTMetadata is the type of a volume whose data was destroyed.
const CBTMetadata = "CBT_Metadata"

// SizeUnit is what the virtual sizes of disks are whole multiples of, in bytes: a tail that is no
// whole sector would be lost to the guest.
const SizeUnit = 4096

// NewSizeUnit is what new sizes are rounded up to, in bytes, as those of VHDs are: Xen Orchestra reads
// changed blocks in pieces of it. Disks that are there already keep what they have until they grow.
const NewSizeUnit = 2 << 20

// MaxSize bounds virtual sizes, in bytes: 1 EiB, an eighth of what XFS and btrfs
// can address. A filesystem with a lower limit answers for itself.
const MaxSize = 1 << 60

// RoundUp is the virtual size of a disk whose file has size bytes.
func RoundUp(size int64) int64 { return wholeUnits(size, SizeUnit) }

// RoundUpNew is the virtual size of a disk that is made for size bytes. MaxSize is one.
func RoundUpNew(size int64) int64 { return wholeUnits(size, NewSizeUnit) }

func wholeUnits(size, unit int64) int64 { return (size + unit - 1) / unit * unit }

// grown is the length that a disk whose file has now bytes gets if it shall have size. One that is as long as what was asked for,
// rounded up as when it was made, stays as it is; ok is false if it would have to shrink.
func grown(now, size int64) (length int64, ok bool) {
	have := RoundUp(now)
	switch {
	case RoundUp(size) == have, RoundUpNew(size) == have:
		return have, true
	case size < have:
		return 0, false
	}
	return RoundUpNew(size), true
}

// checkSize refuses what is no disk's size. That of a new disk may be 0, and that of one
// that there is may not: it would be shorter than it was.
func checkSize(size int64) error {
	if size <= 0 {
		return fault.Errorf(fault.ErrSize, "size", "the size is %d, it must be positive", size)
	}
	if size > MaxSize {
		return fault.Errorf(fault.ErrSize, "size", "the size is %d, at most %d bytes are possible", size, int64(MaxSize))
	}
	return nil
}

// Stat describes one volume.
func Stat(handle string, key sr.Key) (Volume, error) {
	s, err := sr.Open(handle, dirfs.Unlocked)
	if err != nil {
		return Volume{}, err
	}
	defer s.Close()
	return Describe(s, key)
}

// Describe is Stat in an open SR. Record and data are two files, and no lock is
// held: what is told is of one moment because the data is looked at on both sides of
// reading the record, until it is the same.
func Describe(s *sr.SR, key sr.Key) (Volume, error) {
	for {
		before, _ := s.Root.Stat(sr.Data(key)) // the second look says what is wrong
		r, err := Load(s, key)
		if err != nil {
			return Volume{}, err
		}
		st, err := StatData(s, key)
		if err != nil {
			return Volume{}, err
		}
		if before != nil && before.Ino == st.Ino && before.Size == st.Size {
			return describe(s, key, r, st), nil
		}
	}
}

func describe(s *sr.SR, key sr.Key, r *Record, st *unix.Stat_t) Volume {
	v := Volume{
		Key: key, UUID: string(key), Name: r.Name, Description: r.Description,
		ReadWrite: r.ReadWrite && r.Format <= layout.Format, Sharable: r.Sharable, Keys: r.Keys,
		VirtualSize: RoundUp(st.Size), PhysicalUtilisation: st.Blocks * 512,
		URI: []string{URI(s, key)}, CBTEnabled: r.CBT,
	}
	if r.DataDestroyed {
		v.VolumeType = CBTMetadata
	}
	if v.Keys == nil {
		v.Keys = map[string]string{}
	}
	return v
}

// List describes every volume of the SR, in the order of their keys. A volume
// that vanishes meanwhile is left out; a damaged one is listed as such, read-only,
// because a disk that disappears from the list is forgotten by the toolstack.
func List(handle string) ([]Volume, error) {
	s, err := sr.Open(handle, dirfs.Unlocked)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return list(s)
}

func list(s *sr.SR) ([]Volume, error) {
	keys, err := s.Remember(func() ([]sr.Key, error) { return Keys(s) })
	if err != nil && s.HasFailed(err) {
		keys, err = recalled(s, err)
	}
	if err != nil {
		return nil, err
	}
	all := make([]Volume, len(keys)) // without a key: not yet, or none
	eachPlain(s, keys, func(i int, r *Record, st *unix.Stat_t) { all[i] = describe(s, keys[i], r, st) })
	errs := make([]error, len(keys))
	Parallel(len(keys), func(i int) {
		if all[i].Key != "" {
			return
		}
		v, err := Describe(s, keys[i]) // which says what is the matter
		switch {
		case err == nil:
			all[i] = v
		case errors.Is(err, fault.ErrDamaged), fault.IsIO(err), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
			all[i] = damaged(s, keys[i], err)
		case !errors.Is(err, fault.ErrVolumeNotFound):
			errs[i] = err
		}
	})
	return slices.DeleteFunc(all, func(v Volume) bool { return v.Key == "" }), errors.Join(errs...)
}

// eachPlain reads the records of the volumes with which nothing is the matter, each with what its data is like in the same
// moment. do is called for several at the same time, and may not save a record. What is the matter with the others Describe says.
func eachPlain(s *sr.SR, keys []sr.Key, do func(i int, r *Record, st *unix.Stat_t)) {
	names := func(i int) (record, data string) { return sr.Record(keys[i]), sr.Data(keys[i]) }
	s.Root.ReadPairs(len(keys), names, func(i int, data []byte, st *unix.Stat_t) {
		if r, err := peekRecord(data); err == nil && checkLength(keys[i], st) == nil {
			do(i, &r, st)
		}
	})
}

// recalled are the keys that this host has seen in an SR whose directory cannot be listed
// any more, because of why: of volumes that can still be looked at, or that cannot.
func recalled(s *sr.SR, why error) ([]sr.Key, error) {
	keys, err := s.Remembered()
	if err != nil {
		return nil, why
	}
	slog.Warn("the SR's directory cannot be listed; its volumes are those that this host has seen", "sr", s.Path, "err", why)
	return keys, nil
}

// damaged describes a volume whose record or data is no good.
func damaged(s *sr.SR, key sr.Key, why error) Volume {
	r := &Record{Name: "damaged volume " + string(key), Description: why.Error()}
	st, err := s.Root.Stat(sr.Data(key))
	if err != nil || st.Size > MaxSize {
		st = new(unix.Stat_t)
	}
	return describe(s, key, r, st)
}

// Keys lists the keys of all volumes, sorted.
//
// One reading of a directory is not enough: on btrfs a name that a rename replaces
// meanwhile can be missing from it. A volume's other file and its lock file are
// not replaced at the same time.
func Keys(s *sr.SR) ([]sr.Key, error) {
	names, err := s.Root.Names()
	if err != nil {
		return nil, err
	}
	locks, err := s.Locks.Names()
	if err != nil {
		return nil, err
	}
	keys := make([]sr.Key, 0, len(locks))
	for _, name := range names {
		if base, isRecord := strings.CutSuffix(name, ".inf"); isRecord && sr.IsKey(base) {
			keys = append(keys, sr.Key(base))
		}
	}
	seen := make(map[sr.Key]bool, len(keys))
	for _, key := range keys {
		seen[key] = true
	}
	for _, name := range slices.Concat(names, locks) {
		key := sr.Key(strings.TrimSuffix(name, ".inf"))
		if !sr.IsKey(string(key)) || seen[key] {
			continue
		}
		seen[key] = true
		there, err := s.Root.Exists(sr.Record(key))
		if err != nil {
			return nil, err
		}
		if there {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// Parallel calls do for 0 … n-1 on all processors.
func Parallel(n int, do func(int)) {
	workers := min(runtime.GOMAXPROCS(0), 1+n/64)
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := w; i < n; i += workers {
				do(i)
			}
		})
	}
	wait.Wait()
}
