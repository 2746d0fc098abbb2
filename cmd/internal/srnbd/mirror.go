package srnbd

import (
	"os"
	"sync"

	"reflinksr/internal/nbd"
	"reflinksr/internal/sectors"
)

// mirror is a disk that is written to sector by sector. Everything that was written stays data, zeros as well: what nobody has written to is
// taken from another disk later.
type mirror struct {
	*sectors.Disk
	size   int64
	mu     sync.Mutex
	failed error // of the first flush that did
}

func newMirror(whole, apart *os.File, size int64) *mirror {
	return &mirror{Disk: sectors.New(whole, apart), size: size}
}

// Size is the disk's.
func (m *mirror) Size() int64 { return m.size }

// ReadAt reads any bytes: those of whole sectors.
func (m *mirror) ReadAt(p []byte, offset int64) (int, error) {
	skip := offset % sectors.Sector
	end := min((offset+int64(len(p))+sectors.Sector-1)/sectors.Sector*sectors.Sector, m.size)
	if skip == 0 && end == offset+int64(len(p)) {
		return m.Disk.ReadAt(p, offset)
	}
	all := make([]byte, end-offset+skip)
	if _, err := m.Disk.ReadAt(all, offset-skip); err != nil {
		return 0, err
	}
	return copy(p, all[skip:]), nil
}

// Flush makes durable what was written. The kernel tells of a write that was lost once: from then on it is told here.
func (m *mirror) Flush() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed == nil {
		m.failed = m.Sync()
	}
	return m.failed
}

// Trim does nothing: the sectors stay written.
func (*mirror) Trim(_, _ int64) error { return nil }

// Zero writes zeros.
func (m *mirror) Zero(offset, length int64, how nbd.ZeroHow) error {
	if how.Fast {
		return nbd.ErrNotFast
	}
	for zeros := make([]byte, min(length, 1<<20)); length > 0; {
		n, err := m.WriteAt(zeros[:min(length, int64(len(zeros)))], offset)
		if err != nil {
			return err
		}
		offset, length = offset+int64(n), length-int64(n)
	}
	return nil
}

// Extents tells of no holes: who mirrors does not ask.
func (m *mirror) Extents(_, length int64, _ int) ([]nbd.Extent, error) {
	return []nbd.Extent{{Length: length}}, nil
}
