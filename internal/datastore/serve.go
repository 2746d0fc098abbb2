package datastore

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/extent"
	"reflinksr/internal/fault"
	"reflinksr/internal/image"
	"reflinksr/internal/nbd"
)

// Served is a disk of a backup that somebody else reads, by NBD, as its guest sees it.
type Served struct {
	Backup
	Socket string // of a server that serves it alone, by any name
	Bitmap string // the name of that which tells what has changed since the increment before; "": it is all of the disk
	Size   int64  // bytes
}

// longestSocket is how many bytes the path of a socket may have.
const longestSocket = 107

// Serve has somebody else read the disks: it makes the directory of the backup anew, serves each disk on a socket in it, and calls read, which
// returns when all is read. describe is written into the file name beforehand. When read has failed the directory goes; when it has not, what
// increments before the last were taken of is given up, as by Write.
func (m *Moment) Serve(ctx context.Context, dir string, vm []byte, name string, describe func([]Served) ([]byte, error), read func(context.Context) error) (err error) {
	if err := RemoveBackup(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, RemoveBackup(dir))
		}
	}()
	d, err := dirfs.OpenDir(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.WriteNew("vm.xml", vm); err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	var servers sync.WaitGroup
	defer servers.Wait()
	defer stop()
	var all []Served
	for _, disk := range m.disks {
		s, server, err := disk.serve(dir)
		if err != nil {
			return err
		}
		l, err := net.Listen("unix", s.Socket)
		if err != nil {
			return err
		}
		servers.Go(func() { server.Serve(serving, l) }) //nolint:errcheck // who reads is told by a connection that ends
		all = append(all, s)
	}
	text, err := describe(all)
	if err != nil {
		return err
	}
	if err := d.WriteNew(name, text); err != nil {
		return err
	}
	if err := read(ctx); err != nil {
		return err
	}
	stop()
	servers.Wait()
	for _, disk := range m.disks {
		if err := disk.giveUp(); err != nil {
			return err
		}
	}
	return nil
}

// serve makes the server of a disk.
func (m moment) serve(dir string) (Served, *nbd.Server, error) {
	s := Served{Backup: m.Backup, Socket: filepath.Join(dir, "disk."+itoa(m.Disk)+".sock")}
	if len(s.Socket) > longestSocket {
		return s, nil, fault.Hint(fault.Errorf(fault.ErrInvalid, s.Socket, "%q is too long a name for a socket, of at most %d bytes", fault.Shorten(s.Socket), longestSocket), "set BACKUP_BASE_PATH to a shorter one")
	}
	st, err := m.now.Stat()
	if err != nil {
		return s, nil, err
	}
	img, err := image.OpenAt(m.now, st.Size(), "the disk", image.Options{Format: m.Format})
	if err != nil {
		return s, nil, err
	}
	s.Size = img.Size()
	server := &nbd.Server{Backend: &still{m: img}, ReadOnly: true}
	if m.before != nil {
		s.Bitmap = "since_" + strconv.Itoa(m.Increment-1)
		b := new(bitmap)
		c := clusters{size: s.Size, do: b.add}
		if err := extent.Differences(m.now, m.before, s.Size, c.add); err != nil {
			return s, nil, err
		}
		if err := c.end(); err != nil {
			return s, nil, err
		}
		server.Bitmap = &nbd.Bitmap{Name: s.Bitmap, Extents: b.extents}
	}
	return s, server, nil
}

// still is a disk that nobody writes to, as a server wants it.
type still struct {
	mu sync.Mutex // an Image keeps what it has looked up
	m  *image.Image
}

func (d *still) Size() int64 { return d.m.Size() }

func (d *still) ReadAt(p []byte, offset int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.m.ReadAt(p, offset)
}

func (d *still) WriteAt([]byte, int64) (int, error)   { return 0, unix.EPERM }
func (d *still) Flush() error                         { return nil }
func (d *still) Trim(int64, int64) error              { return unix.EPERM }
func (d *still) Zero(int64, int64, nbd.ZeroHow) error { return unix.EPERM }

func (d *still) Extents(offset, length int64, most int) (all []nbd.Extent, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for end := offset + length; offset < end && len(all) < most; {
		e, err := d.m.Extent(offset)
		if err != nil {
			return nil, err
		}
		n := min(e.Length, end-offset)
		all = append(all, nbd.Extent{Length: n, Hole: !e.Data, Zero: !e.Data})
		offset += n
	}
	return all, nil
}

// bitmap is the ranges of a disk that have changed, in order.
type bitmap struct{ starts, ends []int64 }

func (b *bitmap) add(start, end int64) error {
	b.starts, b.ends = append(b.starts, start), append(b.ends, end)
	return nil
}

func (b *bitmap) extents(offset, length int64, most int) (all []nbd.Changed, err error) {
	i := sort.Search(len(b.ends), func(i int) bool { return b.ends[i] > offset })
	for end := offset + length; offset < end && len(all) < most; {
		next, changed := end, false
		if i < len(b.starts) {
			if changed = offset >= b.starts[i]; changed {
				next = b.ends[i]
				i++
			} else {
				next = b.starts[i]
			}
		}
		next = min(next, end)
		all = append(all, nbd.Changed{Length: next - offset, Changed: changed})
		offset = next
	}
	return all, nil
}
