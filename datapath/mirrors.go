package datapath

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/rundir"
	"reflinksr/internal/uuids"
	"reflinksr/sr"
)

// MirrorState is how far a mirror of a volume to elsewhere is.
type MirrorState struct {
	ID       string `json:"id"`
	URI      string `json:"uri"`
	Domain   string `json:"domain"`
	Remote   string `json:"remote"`
	Copied   int64  `json:"copied"` // bytes, of
	Total    int64  `json:"total"`  // so many there were when it began
	Rounds   int    `json:"rounds"`
	Complete bool   `json:"complete"` // the other side has all but what was written lately
	Ended    bool   `json:"ended"`    // and that as well
	Failed   string `json:"failed"`   // why it has, and has ended
}

// Progress is from 0 to 1.
func (m MirrorState) Progress() float64 {
	switch {
	case m.Complete:
		return 1
	case m.Total <= 0:
		return 0
	}
	return min(0.99, float64(m.Copied)/float64(m.Total))
}

// Over says whether nothing changes any more.
func (m MirrorState) Over() bool { return m.Ended || m.Failed != "" }

// nameOf is the name of the volume's note that a mirror's ID begins with.
func nameOf(id string) (name string, err error) {
	bad := fault.Errorf(fault.ErrInvalid, fault.Shorten(id), "%q is no mirror's", fault.Shorten(id))
	dot := strings.LastIndexByte(id, '.')
	if dot < 0 {
		return "", bad
	}
	name = id[:dot]
	uuid, key, found := strings.Cut(name, ".")
	_, random := uuids.Parse(id[dot+1:])
	_, named := uuids.Parse(uuid)
	if !found || !random || !named {
		return "", bad
	}
	if k, err := sr.ParseKey(key); err != nil || string(k) != key {
		return "", bad
	}
	return name, nil
}

func (m MirrorState) write(dir *dirfs.Dir) error {
	name, err := nameOf(m.ID)
	if err != nil {
		return err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return dir.Republish(name+mirrorSuffix, data)
}

// readMirror reads what is known of the mirror of a volume: none has no ID. A process that is gone without a word has failed.
func readMirror(dir *dirfs.Dir, name string) (m MirrorState, err error) {
	lock, busy, err := lockServer(dir, name+mirrorSuffix)
	if err != nil {
		return m, err
	}
	defer lock.Close()
	data, err := dir.Read(name+mirrorSuffix, 64<<10)
	if errors.Is(err, os.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		return MirrorState{}, fmt.Errorf("what is known of a mirror cannot be read from %s: %w", dir.Join(name+mirrorSuffix), err)
	}
	if !busy && !m.Over() {
		m.Failed = "its process was killed"
	}
	return m, nil
}

// mirrorOf is readMirror of an ID: fault.ErrInvalid if there is no such mirror, or no more.
func mirrorOf(id string) (m MirrorState, dir *dirfs.Dir, name string, err error) {
	if name, err = nameOf(id); err != nil {
		return m, nil, "", err
	}
	none := fault.Errorf(fault.ErrInvalid, id, "there is no mirror %s: it was forgotten, the host was started anew, or its volume is no more", id)
	dir, err = rundir.Look(serversDir)
	if errors.Is(err, os.ErrNotExist) {
		return m, nil, "", none
	}
	if err != nil {
		return m, nil, "", err
	}
	there, err := dir.Exists(name + mirrorSuffix)
	if err == nil && !there {
		err = none
	}
	if err == nil {
		m, err = readMirror(dir, name)
	}
	if err == nil && m.ID != id {
		err = none
	}
	if err != nil {
		dir.Close()
		return m, nil, "", err
	}
	return m, dir, name, nil
}

// news is how long MirrorOf waits for a change: the toolstack asks again and again without a pause.
const news = time.Second

// MirrorOf is how far a mirror is. It waits a moment for that to change, unless it is complete or over.
func MirrorOf(id string) (MirrorState, error) {
	m, dir, name, err := mirrorOf(id)
	if err != nil {
		return m, err
	}
	defer dir.Close()
	before := m
	for end := time.Now().Add(news); m == before && !m.Complete && !m.Over() && time.Now().Before(end); {
		time.Sleep(news / 20)
		if m, err = readMirror(dir, name); err != nil {
			return m, err
		}
	}
	return m, nil
}

// MirrorOfVolume is how far the mirror of a volume is: one without an ID if there is none.
func MirrorOfVolume(handle string, key sr.Key) (MirrorState, error) {
	dir, name, err := mirrorsOf(handle, key)
	if err != nil || dir == nil {
		return MirrorState{}, err
	}
	defer dir.Close()
	return readMirror(dir, name)
}

// Mirrors are those that this host knows of.
func Mirrors() (all []MirrorState, err error) {
	dir, err := rundir.Look(serversDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Names()
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		name, is := strings.CutSuffix(n, mirrorSuffix)
		if !is {
			continue
		}
		m, err := readMirror(dir, name)
		if err != nil {
			slog.Warn("a mirror is not told of", "err", err)
			continue
		}
		if m.ID != "" {
			all = append(all, m)
		}
	}
	return all, nil
}

// CancelMirror ends a mirror, and returns when its process is gone. One that is over is no error.
func CancelMirror(id string) error {
	_, dir, name, err := mirrorOf(id)
	if err != nil {
		return err
	}
	defer dir.Close()
	return endMirror(dir, name)
}

// ForgetMirror is CancelMirror, of which nothing is known then.
func ForgetMirror(id string) error {
	_, dir, name, err := mirrorOf(id)
	if err != nil {
		return err
	}
	defer dir.Close()
	return forget(dir, name)
}

func forget(dir *dirfs.Dir, name string) error {
	if err := endMirror(dir, name); err != nil {
		return err
	}
	return errors.Join(dir.Remove(name+mirrorSuffix), dir.Remove(name+mirrorSuffix+".new"), dir.Remove(name+lastSuffix), dir.Remove(name+mirrorLockSuffix))
}

func endMirror(dir *dirfs.Dir, name string) error {
	lock, busy, err := lockServer(dir, name+mirrorSuffix)
	if err != nil || !busy {
		if lock != nil {
			lock.Close()
		}
		return err
	}
	defer lock.Close()
	return awaitEnd(lock)
}

// ForgetMirrorsOf forgets the mirror of a volume that is no more.
func ForgetMirrorsOf(handle string, key sr.Key) error {
	dir, name, err := mirrorsOf(handle, key)
	if err != nil || dir == nil {
		return err
	}
	defer dir.Close()
	return forget(dir, name)
}

// mirrorsOf is where something is known of mirrors of a volume: nil if nothing ever was.
func mirrorsOf(handle string, key sr.Key) (*dirfs.Dir, string, error) {
	_, uuid, err := layout.ParseHandle(handle)
	if err != nil {
		return nil, "", nil // whoever needs it says so
	}
	dir, err := rundir.Look(serversDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	name := lease.NoteName(uuid, key)
	there, err := dir.Exists(name + mirrorLockSuffix)
	if err != nil || !there {
		dir.Close()
		return nil, "", err
	}
	return dir, name, nil
}
