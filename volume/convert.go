package volume

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/extent"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/reflink"
	"reflinksr/internal/source"
	"reflinksr/internal/sys"
	"reflinksr/sr"
)

// Converted is a disk of another kind of SR that becomes a volume here with the key that it has there, or a base: what several
// of them have in common, which is no volume, and only there until they have been made.
type Converted struct {
	Key    sr.Key
	Record *Record // nil: a base
	Size   int64   // bytes
	Stamp  string  // tells what it was made of

	Parent     sr.Key // it begins as that, which was converted before: "" as zeros
	ParentBase bool   // that is a base
	ParentSize int64  // bytes
}

// Patch takes what a converted disk has of its own.
type Patch interface {
	io.WriterAt
	ZeroAt(at, n int64) error // n bytes of zeros
}

// Reading reads what a disk holds.
type Reading interface {
	io.ReaderAt
	EachData(from, to int64, do func(from, to int64) error) error
}

// Convert makes a volume or a base, which begins as its parent, of what give gives to it and check then finds in it, from its beginning
// up to so many bytes. Until that is durable, and was read again by check, it is not there; if one of the two fails nothing is
// left behind. A volume with that key, whatever it holds, is refused.
func Convert(handle string, c Converted, give func(Patch) error, check func(Reading, int64) error) (err error) {
	if err := checkSize(c.Size); err != nil {
		return err
	}
	if r := c.Record; r != nil {
		if err := errors.Join(source.CheckText("name", r.Name), source.CheckText("description", r.Description)); err != nil {
			return err
		}
	}
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	from, err := c.openParent(s)
	if err != nil {
		return err
	}
	defer from.close()
	lock, err := s.LockNew(c.Key)
	if err != nil {
		return err
	}
	begun, made := false, false
	defer func() {
		if begun && !made {
			err = errors.Join(err, c.takeBack(s))
		}
		release(s, c.Key, lock)
	}()
	if err := absent(s, c.Key); err != nil {
		return err
	}
	begun = true
	if err := s.Discard(c.Key); err != nil { // of an interrupted attempt
		return err
	}
	st, err := c.stage(s, from, give, check)
	if err != nil {
		return err
	}
	if c.Record == nil {
		if err := s.Staging.Rename(c.staged(), s.Staging, sr.Base(c.Key)); err != nil {
			return err
		}
		made = true
		return s.Staging.Sync()
	}
	if err := addStaged(s, c.Key, c.Record, st); err != nil {
		return err
	}
	made = true
	return nil
}

// staged is what its data are called while they are made.
func (c *Converted) staged() string {
	if c.Record == nil {
		return sr.Base(c.Key) + ".new"
	}
	return sr.Data(c.Key)
}

func (c *Converted) takeBack(s *sr.SR) error {
	if c.Record == nil {
		return s.Discard(c.Key)
	}
	return takeBack(s, c.Key)
}

// stage puts the data together, has them checked, and marks them.
func (c *Converted) stage(s *sr.SR, from *parent, give func(Patch) error, check func(Reading, int64) error) (*unix.Stat_t, error) {
	f, err := s.Staging.Create(c.staged())
	if err != nil {
		return nil, fmt.Errorf("making the new volume's data file: %w", err)
	}
	defer f.Close()
	attrs := s.Meta.Options.Attributes()
	if from != nil {
		if attrs, err = reflink.AttributesOf(from.data); err != nil {
			return nil, err
		}
	}
	if err := attrs.Apply(f); err != nil {
		return nil, err
	}
	if from != nil {
		if err := reflink.CloneFile(f, from.data); err != nil {
			return nil, err
		}
		// What is behind the end of either is not the parent's: zeros.
		if err := f.Truncate(min(c.ParentSize, c.Size)); err != nil {
			return nil, err
		}
	}
	if err := setLength(f, RoundUp(c.Size)); err != nil {
		return nil, err
	}
	if err := give(&patch{f: f, filling: filesystem.Fill(s.Root), over: from != nil, size: c.Size}); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("making the new volume's data durable: %w", err)
	}
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // what is read now comes from the disk, if the kernel likes
	if err := check(reading{f}, RoundUp(c.Size)); err != nil {
		return nil, err
	}
	if err := setStamp(f, c.Stamp); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("making the new volume's data durable: %w", err)
	}
	return sys.Fstat(f)
}

// parent is what a converted disk begins as.
type parent struct {
	data *os.File
	lock *dirfs.Lock
}

func (p *parent) close() {
	if p != nil {
		p.data.Close()
		p.lock.Unlock()
	}
}

// openParent opens the parent, with which nobody does anything meanwhile: nil if there is none.
func (c *Converted) openParent(s *sr.SR) (*parent, error) {
	if c.Parent == "" {
		return nil, nil
	}
	if c.ParentBase {
		data, err := s.Staging.Open(sr.Base(c.Parent), unix.O_RDONLY)
		if err != nil {
			return nil, err
		}
		return &parent{data: data}, nil
	}
	return openIdle(s, c.Parent)
}

// openIdle opens a volume that nobody has, and locks it.
func openIdle(s *sr.SR, key sr.Key) (*parent, error) {
	lock, err := s.LockVolume(key, dirfs.Shared)
	if err != nil {
		return nil, err
	}
	var data *os.File
	r, err := Load(s, key)
	if err == nil {
		err = r.MustHaveData(key)
	}
	if err == nil {
		err = lease.CheckIdle(s, key)
	}
	if err == nil {
		data, err = OpenData(s, key, unix.O_RDONLY)
	}
	if err != nil {
		lock.Unlock()
		return nil, err
	}
	return &parent{data, lock}, nil
}

// patch writes to a file that holds zeros, or what it is to be written over.
type patch struct {
	f       *os.File
	filling *filesystem.Filling
	over    bool
	size    int64
	written sys.Writeback
}

// leastHole is the least that is worth a hole, in bytes: each may be an extent more.
const leastHole = 64 << 10

func (p *patch) WriteAt(b []byte, at int64) (int, error) {
	if err := p.room(at, int64(len(b))); err != nil {
		return 0, err
	}
	if err := p.filling.Take(int64(len(b))); err != nil {
		return 0, fmt.Errorf("the new disk was given up at byte %d: %w", at, err)
	}
	n, err := p.f.WriteAt(b, at)
	p.written.Wrote(p.f, at+int64(n))
	return n, err
}

func (p *patch) ZeroAt(at, n int64) error {
	if err := p.room(at, n); err != nil || !p.over {
		return err
	}
	if n >= leastHole {
		err := sys.Do(func() error {
			return unix.Fallocate(int(p.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, n)
		})
		if err != unix.EOPNOTSUPP {
			return err
		}
	}
	zeros := make([]byte, min(n, pieceSize))
	for n > 0 {
		piece := zeros[:min(n, pieceSize)]
		if _, err := p.WriteAt(piece, at); err != nil {
			return err
		}
		at, n = at+int64(len(piece)), n-int64(len(piece))
	}
	return nil
}

func (p *patch) room(at, n int64) error {
	if at < 0 || n < 0 || at > p.size || n > p.size-at {
		return fault.Errorf(fault.ErrSize, "size", "the new disk has %d bytes, and %d are given at %d", p.size, n, at)
	}
	return nil
}

type reading struct{ *os.File }

func (r reading) EachData(from, to int64, do func(from, to int64) error) error {
	return extent.EachData(r.File, from, to, do)
}
