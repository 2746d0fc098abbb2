package datapath

import (
	"errors"
	"fmt"
	"os"
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

// Mirroring is a process's right to mirror a volume to elsewhere.
type Mirroring struct {
	State  MirrorState
	Handle string // of the SR
	Key    sr.Key
	Last   string // the socket where who connects is to hear Sent when everything is at the other side
	Remote Remote

	name string
	dir  *dirfs.Dir
	lock *dirfs.Lock
	told time.Time // when the state was written
}

// Sent is what is said at Mirroring.Last.
const Sent = sent

// BeginMirroring is for the process that is to mirror. fault.ErrBusy if another one does.
func BeginMirroring(uri, id string) (_ *Mirroring, err error) {
	handle, uuid, key, err := volume.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	m := &Mirroring{Handle: handle, Key: key, name: lease.NoteName(uuid, key)}
	if m.dir, err = rundir.Look(serversDir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	if m.Last = m.dir.Join(m.name + lastSuffix); len(m.Last) > mostSocket {
		return nil, fault.Errorf(fault.ErrInvalid, m.Last, "%s is too long for a socket: %d bytes, at most %d", m.Last, len(m.Last), mostSocket)
	}
	if m.State, err = readMirror(m.dir, m.name); err != nil {
		return nil, err
	}
	if m.State.ID != id || m.State.URI != uri {
		return nil, fault.Errorf(fault.ErrInvalid, id, "there is no mirror %s", id)
	}
	m.State.Failed = "" // it has just begun
	if m.Remote, err = ParseRemote(m.State.Remote); err != nil {
		return nil, err
	}
	if m.lock, err = m.dir.Lock(m.name+mirrorLockSuffix, "the mirror of volume "+string(key)); err != nil {
		return nil, err
	}
	if _, err := m.lock.File().WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, err
	}
	return m, m.dir.Remove(m.name + lastSuffix)
}

// tell is how often the state is written, at most, while nothing but the number of bytes changes.
const tell = 200 * time.Millisecond

// Tell writes how far it is; in passing, if that was not done lately.
func (m *Mirroring) Tell(inPassing bool) error {
	if inPassing && time.Since(m.told) < tell {
		return nil
	}
	m.told = time.Now()
	return m.State.write(m.dir)
}

// Open opens the volume's file to be read, when nobody writes to it.
func (m *Mirroring) Open() (*os.File, error) {
	s, err := sr.Open(m.Handle, dirfs.Unlocked)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return volume.OpenData(s, m.Key, unix.O_RDONLY)
}

// Wanted says whether the volume is attached for anybody.
func (m *Mirroring) Wanted() bool {
	dir, err := rundir.Look(rundir.Volumes)
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	defer dir.Close()
	note, err := lease.ReadNote(dir, m.name)
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	return err != nil || len(note.Domains) > 0 // in doubt
}

// End tells how it ended, and leaves nothing but that.
func (m *Mirroring) End(err error) error {
	if err != nil {
		m.State.Failed = fmt.Sprintf("%.1000s", err)
	} else {
		m.State.Ended = true
	}
	err = errors.Join(m.Tell(false), m.dir.Remove(m.name+lastSuffix))
	m.close()
	return err
}

func (m *Mirroring) close() {
	if m.lock != nil {
		m.lock.Unlock()
	}
	m.dir.Close()
}
