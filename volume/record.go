package volume

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/record"
	"reflinksr/internal/source"
	"reflinksr/sr"
)

// Record is a volume's .inf file. A record of the simple file SR has only name,
// description and size.
type Record struct {
	Format      int               `json:"format"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Size        advisory          `json:"size"` // bytes; the data file's length is the truth
	ReadWrite   bool              `json:"read_write"`
	Sharable    bool              `json:"sharable"`
	Keys        map[string]string `json:"keys"`
	Created     time.Time         `json:"created,omitzero"` // unknown in an adopted volume
	SectorSize  int               `json:"sector_size"`      // bytes, fixed for the volume's life
	Origin      *Origin           `json:"origin"`           // nil: made by Volume.create
	CBT         bool              `json:"cbt"`              // changed blocks may be asked for

	// DataDestroyed: what is left of the data only serves to tell what others have
	// changed since (package snapshot, DestroyData). It must not be read as the disk's.
	DataDestroyed bool `json:"data_destroyed,omitempty"`

	// Received: what was written to a part of a block was once kept in a file of its own (Receive). Whether it still is that file
	// tells; this, which stays, is for a filesystem that cannot tell of it any more.
	Received bool `json:"received,omitempty"`

	// Sequence is greater than that of every volume of the SR that was made before: 0, the
	// least, in an adopted one and in one of an older version. It decides what is older.
	Sequence sequence `json:"sequence,omitzero"`

	// Chosen is the key that a new volume is to have: "" for whichever.
	Chosen sr.Key `json:"-"`

	unknown record.Unknown
	after   sequence // of a new record: what its own must be greater than
}

// Origin says where a volume's blocks came from.
type Origin struct {
	Kind Kind      `json:"kind"`
	Of   sr.Key    `json:"of"`
	At   time.Time `json:"at"`
}

// Kind is how a volume was derived from another.
type Kind string

// How a volume can have been derived.
const (
	Snapshot Kind = "snapshot" // read-only
	Clone    Kind = "clone"
	Copy     Kind = "copy"
)

// advisory is a number that nothing depends on: whatever a foreign record holds
// there is no damage.
type advisory int64

func (a *advisory) UnmarshalJSON(data []byte) error {
	n, err := strconv.ParseInt(string(data), 10, 64)
	if err != nil {
		json.Unmarshal(data, &n)
	}
	*a = advisory(n)
	return nil
}

// sequence is a number that SR.Sequence gave; anything else in its place is none.
type sequence int64

func (n *sequence) UnmarshalJSON(data []byte) error {
	m, err := strconv.ParseInt(string(data), 10, 64)
	if err != nil || m < 0 || m > sr.MaxSequence {
		m = 0
	}
	*n = sequence(m)
	return nil
}

// Older says how a volume's record compares with another's by age: negative if it was made
// first. Only among those without a number, which come before all others, the clock counts.
func (r *Record) Older(than *Record) int {
	return cmp.Or(cmp.Compare(r.Sequence, than.Sequence), r.Created.Compare(than.Created))
}

// enumerate gives a new record its number.
func (r *Record) enumerate(s *sr.SR) error {
	n, err := s.Sequence(func() (int64, error) {
		keys, err := Keys(s)
		if err != nil {
			return 0, err
		}
		numbers := make([]sequence, len(keys))
		Parallel(len(keys), func(i int) {
			if r, err := Load(s, keys[i]); err == nil { // one that cannot be read has no place among the others
				numbers[i] = r.Sequence
			}
		})
		return int64(slices.Max(append(numbers, r.after))), nil
	})
	r.Sequence = max(sequence(n), min(r.after+1, sr.MaxSequence))
	return err
}

const keysLimit = 512 << 10 // bytes

// Load reads a volume's record. ErrVolumeNotFound if there is none, ErrDamaged if
// it cannot be understood.
func Load(s *sr.SR, key sr.Key) (*Record, error) {
	var data []byte
	err := s.Root.RetryReplaced(sr.Data(key), func() (err error) {
		data, err = s.Root.Read(sr.Record(key), record.Limit)
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil, sr.NoVolume(string(key), s.Path)
	}
	if err != nil {
		return nil, err
	}
	r, err := parseRecord(data)
	if err != nil {
		return nil, fault.Hint(fault.Errorf(fault.ErrDamaged, string(key), "volume %s: its record %s/%s cannot be read: %v", key, s.Path, sr.Record(key), err),
			"restore the record; the data is untouched")
	}
	return r, nil
}

// parseRecord reads a record of ours or of the simple file SR.
func parseRecord(data []byte) (*Record, error) {
	r := &Record{ReadWrite: true, SectorSize: 512}
	var err error
	if r.unknown, err = record.Decode(data, r); err != nil {
		return nil, err
	}
	return r, r.check()
}

// peekRecord is parseRecord for who only looks, and keeps nothing of data. The record cannot be saved.
func peekRecord(data []byte) (r Record, err error) {
	r = Record{ReadWrite: true, SectorSize: 512}
	if err := record.Peek(data, &r); err != nil {
		return r, err
	}
	return r, r.check()
}

func (r *Record) check() error {
	if r.SectorSize != 512 && r.SectorSize != 4096 {
		return fmt.Errorf("sector_size is %d, neither 512 nor 4096", r.SectorSize)
	}
	return nil
}

// LoadForChange is Load for a caller that will change the volume or derive from
// it: a record of a newer format is refused with ErrNewer.
func LoadForChange(s *sr.SR, key sr.Key) (*Record, error) {
	r, err := Load(s, key)
	if err == nil && r.Format > layout.Format {
		err = fault.Hint(fault.Errorf(fault.ErrNewer, string(key), "volume %s: its record has format %d, this version knows %d", key, r.Format, layout.Format),
			"update reflinksr on this host")
	}
	return r, err
}

// MustHaveData refuses a volume whose data was destroyed.
func (r *Record) MustHaveData(key sr.Key) error {
	if r.DataDestroyed {
		return fault.Errorf(fault.ErrNoData, string(key), "volume %s has no data any more: it was destroyed apart, and the volume only tells what others have changed since", key)
	}
	return nil
}

// SetCBT says whether changed blocks may be asked for. The caller holds the volume's lock.
func (r *Record) SetCBT(s *sr.SR, key sr.Key, on bool) error {
	r.CBT = on
	return r.save(s, key)
}

// DestroyData is the commit of a data destruction: from here on the volume has no
// data. The caller holds the volume's lock.
func (r *Record) DestroyData(s *sr.SR, key sr.Key) error {
	r.DataDestroyed = true
	return r.save(s, key)
}

// save replaces the volume's record. The caller holds the volume's lock.
func (r *Record) save(s *sr.SR, key sr.Key) error {
	data, err := r.encode()
	if err != nil {
		return err
	}
	if err := s.Replace(s.Root, sr.Record(key), data); err != nil {
		return fmt.Errorf("volume %s: writing its record: %w", key, err)
	}
	return nil
}

// Derive gives a new record the name and the description of the one that it comes from, as
// they were written there, and makes it younger than that.
func (r *Record) Derive(from *Record) {
	r.after = from.Sequence
	r.Name, r.Description, r.unknown = from.Name, from.Description, from.unknown.Only("name", "description")
}

// Label is what a new volume is called, and the pairs of the caller's that it has from its beginning.
type Label struct {
	Name, Description string
	Keys              map[string]string
	Key               sr.Key // of the new volume: "" for whichever
}

// On labels a new record: fault.ErrInvalid if the texts cannot be a volume's.
func (l Label) On(r *Record) error {
	r.Name, r.Description, r.Keys, r.Chosen = l.Name, l.Description, l.Keys, l.Key
	return errors.Join(source.CheckText("name", l.Name), source.CheckText("description", l.Description))
}

func (r *Record) encode() ([]byte, error) {
	r.Format = layout.Format
	if r.Keys == nil {
		r.Keys = map[string]string{}
	}
	return record.Encode(r, r.unknown)
}

// OpenData opens a volume's data file, flags being O_RDONLY or O_RDWR. It is fault.ErrInUse if that has not all of it: see MustBeWhole.
func OpenData(s *sr.SR, key sr.Key, flags int) (*os.File, error) {
	if err := MustBeWhole(s, key); err != nil {
		return nil, err
	}
	return OpenReceived(s, key, flags)
}

// OpenReceived is OpenData for who knows that sectors may be elsewhere.
func OpenReceived(s *sr.SR, key sr.Key, flags int) (*os.File, error) {
	var f *os.File
	err := s.Root.RetryReplaced(sr.Record(key), func() (err error) {
		f, err = s.Root.Open(sr.Data(key), flags)
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		err = missingData(s, key)
	}
	return f, err
}

// StatData describes the data file of a volume.
func StatData(s *sr.SR, key sr.Key) (*unix.Stat_t, error) {
	var st *unix.Stat_t
	err := s.Root.RetryReplaced(sr.Record(key), func() (err error) {
		st, err = s.Root.Stat(sr.Data(key))
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		err = missingData(s, key)
	}
	if err == nil {
		err = checkLength(key, st)
	}
	return st, err
}

func checkLength(key sr.Key, st *unix.Stat_t) error {
	if st.Size > MaxSize {
		return fault.Errorf(fault.ErrDamaged, string(key), "volume %s: its data file has %d bytes, at most %d are possible", key, st.Size, int64(MaxSize))
	}
	return nil
}

func missingData(s *sr.SR, key sr.Key) error {
	there, err := s.Root.Exists(sr.Record(key))
	if err != nil {
		return fmt.Errorf("volume %s: %w", key, err)
	}
	if !there {
		return sr.NoVolume(string(key), s.Path) // destroyed between two looks
	}
	note, err := lease.NoteOf(s, key)
	if fault.Unseen(err) {
		return fmt.Errorf("volume %s: its data file is missing, and who has it on this host: %w", key, err)
	}
	if err != nil {
		note = lease.Note{} // then devices tell
	}
	if err := lease.InPlace(s, key, note); err != nil {
		return err // not to be restored over what a guest has
	}
	return fault.Hint(fault.Errorf(fault.ErrDamaged, string(key), "volume %s: its data file %s/%s is missing", key, s.Path, sr.Data(key)),
		"restore it")
}
