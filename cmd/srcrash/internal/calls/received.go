package calls

import (
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/sectors"
	"reflinksr/sr"
	volumes "reflinksr/volume"
)

// received is layer, a disk that main is no relative of, with some sectors that are in a file of their own: of blocks that neither has, of
// such as main has, and of one that is whole.
func received(w *world) error {
	if err := layer(diskSize)(w); err != nil {
		return err
	}
	key := w.keys["layer"]
	s, err := sr.Open(w.handle("sr"), dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := volumes.Receive(s, key); err != nil {
		return err
	}
	data, err := volumes.OpenReceived(s, key, unix.O_RDWR)
	if err != nil {
		return err
	}
	defer data.Close()
	apart, err := volumes.OpenSectors(s, key, unix.O_RDWR)
	if err != nil || apart == nil {
		return errors.Join(err, os.ErrNotExist)
	}
	defer apart.Close()
	d := sectors.New(data, apart)
	for _, at := range []int64{512, 4096 + 1024, 3*block + 3584, 8*block - 512, 4 * block} {
		if _, e := d.WriteAt([]byte(strings.Repeat("sector..", 64)), at); e != nil {
			err = e
		}
	}
	return errors.Join(err, d.Sync())
}

// received lists what there is of volumes sector by sector: it is no half of a call, and stays over a restart.
func (r *repository) received() (names []string) {
	for _, name := range r.Left.Staging {
		if strings.HasSuffix(name, sr.Sectors("")) {
			names = append(names, name)
		}
	}
	return names
}

// but is without some staged files.
func (l left) but(staged []string) left {
	l.Staging = slices.DeleteFunc(slices.Clone(l.Staging), func(name string) bool { return slices.Contains(staged, name) })
	return l
}

// taken is composed, when recovery has removed the sectors, which are of the old data.
func taken(before, after *state) *state {
	return composed(before, after).with("sr", func(r *repository) { r.Left.Staging = nil })
}
