package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/rundir"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Server is a process's right to serve a volume by NBD, for a migration that has it active.
type Server struct {
	Socket   string // where it is to listen: nothing is there
	Key      sr.Key
	Disk     *os.File // the volume's device: its file nobody may read beside that; for a mirror its file, for nobody uses the device
	Sectors  *os.File // for a mirror, the file for what is less than a block
	ReadOnly bool

	name string // of the volume's note
	dir  *dirfs.Dir
	lock *dirfs.Lock
}

// mostSocket is the length of a socket's path that the kernel takes (unix(7)).
const mostSocket = 107

// BeginServer is for the process that is to serve, what being ServeDevice or ServeMirror. It is fault.ErrBusy if another one does, and fault.ErrInvalid if the domain
// has the volume not active.
func BeginServer(what, uri, domain string) (_ *Server, err error) {
	handle, uuid, key, err := volume.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	s := &Server{Key: key, name: lease.NoteName(uuid, key)}
	s.Socket = socketOf(s.name)
	if what == ServeMirror {
		s.Socket += receiveSuffix
	}
	if len(s.Socket) > mostSocket {
		return nil, fault.Errorf(fault.ErrInvalid, s.Socket, "%s is too long for a socket: %d bytes, at most %d", s.Socket, len(s.Socket), mostSocket)
	}
	if s.dir, err = rundir.Open(serversDir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.lock, err = s.dir.TryLock(s.name+lockSuffix, "the server of volume "+string(key)); err != nil {
		return nil, err
	}
	if _, err := s.lock.File().WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, err
	}
	note, err := s.note()
	if err != nil {
		return nil, err
	}
	holder, active := note.Holder(domain)
	if !active {
		return nil, fault.Errorf(fault.ErrInvalid, domain, "volume %s is not active in domain %s", key, lease.Plain(domain))
	}
	s.ReadOnly = !holder.Write
	if what == ServeMirror {
		return s, s.openFiles(handle)
	}
	return s, s.openDevice(note)
}

// openDevice opens the volume's device.
func (s *Server) openDevice(note lease.Note) (err error) {
	flags := unix.O_RDWR
	if s.ReadOnly {
		flags = unix.O_RDONLY
	}
	device := note.Device()
	if s.Disk, err = os.OpenFile(device.Path(), flags|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	if there, err := device.IsThere(); err != nil || !there { // while it is open it stays what it is
		return errors.Join(err, fmt.Errorf("volume %s has lost its device", s.Key))
	}
	return nil
}

// openFiles opens the two files of a volume that is received.
func (s *Server) openFiles(handle string) error {
	if s.ReadOnly {
		return fault.Errorf(fault.ErrInvalid, string(s.Key), "volume %s is active for reading only", s.Key)
	}
	repository, err := sr.Open(handle, dirfs.Unlocked)
	if err != nil {
		return err
	}
	defer repository.Close()
	if s.Disk, err = volume.OpenReceived(repository, s.Key, unix.O_RDWR); err != nil {
		return err
	}
	if s.Sectors, err = volume.OpenSectors(repository, s.Key, unix.O_RDWR); err == nil && s.Sectors == nil {
		err = fmt.Errorf("volume %s has no file for sectors", s.Key)
	}
	return err
}

func (s *Server) note() (lease.Note, error) {
	dir, err := rundir.Look(rundir.Volumes)
	if err != nil {
		return lease.Note{}, err
	}
	defer dir.Close()
	return lease.ReadNote(dir, s.name)
}

// Wanted says whether a migration still has the volume active. Calls that end this end the server themselves: this is for what ends
// otherwise, by hand or because the note goes.
func (s *Server) Wanted() bool {
	note, err := s.note()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return true // in doubt
	}
	return slices.ContainsFunc(note.Active, func(h lease.Holder) bool { return IsMigration(h.Domain) })
}

// Connect counts a client, until leave: nobody takes the volume from the domain meanwhile. It is fault.ErrBusy once somebody does.
func (s *Server) Connect() (leave func(), err error) {
	f, err := s.dir.OpenLock(s.name + clientsSuffix)
	if err != nil {
		return nil, err
	}
	if err := dirfs.Flock(f, dirfs.Shared, time.Time{}, true); err != nil {
		return nil, errors.Join(dirfs.LockError(f, "the list of clients", err), f.Close())
	}
	return func() { f.Close() }, nil
}

// End makes durable what was written, and leaves nothing. Whoever waits for the server goes on then.
func (s *Server) End() (err error) {
	for _, f := range []*os.File{s.Sectors, s.Disk} {
		if f == nil {
			continue
		}
		if e := f.Sync(); e != nil {
			err = errors.Join(err, fmt.Errorf("volume %s: what was written by NBD may be lost: %w", s.Key, e))
		}
	}
	if s.Sectors == nil {
		if e := unix.IoctlSetInt(int(s.Disk.Fd()), unix.BLKFLSBUF, 0); e != nil { // what the next one reads is on the disk
			slog.Warn("the device's cache stays", "device", s.Disk.Name(), "err", e)
		}
	}
	err = errors.Join(err, s.dir.Remove(filepath.Base(s.Socket)), s.dir.Remove(s.name+clientsSuffix))
	s.close()
	return err
}

func (s *Server) close() {
	for _, f := range []*os.File{s.Sectors, s.Disk} {
		if f != nil {
			f.Close()
		}
	}
	s.lock.Discard() // last: whoever waits for it goes on
	s.dir.Close()
}
