package sr

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/mount"
	"reflinksr/internal/source"
)

// Destroy ends the SR: its marker goes (the commit), then its volumes' files and
// its control directory. Foreign files stay. check is asked first, under the SR's
// exclusive lock, and its error refuses the destruction. Destroying again after a
// crash finishes the job.
func Destroy(handle string, check func(*SR) error) error {
	a, err := attached.Find(handle)
	if err != nil {
		return err
	}
	if a.Path != mount.Point(a.UUID) {
		return destroy(a, check, false)
	}
	return source.WithNote(a.UUID, func(notes *dirfs.Dir) error {
		m, err := source.ReadNote(notes, a.UUID)
		if errors.Is(err, os.ErrNotExist) {
			return destroy(a, check, false) // somebody else has mounted it there
		}
		if err != nil {
			return err
		}
		c := m.Configuration()
		// It may have been unmounted, under the SR or by an earlier attempt; which may have
		// had its disk blank, too, before it was killed.
		err = c.Mount(notes)
		if m.Over && errors.Is(err, fault.ErrSRNotFound) {
			return source.Unmount(notes, a.UUID)
		}
		if err != nil {
			return err
		}
		if err := destroy(a, check, c.OwnsFilesystem()); err != nil {
			return err
		}
		if err := source.Unmount(notes, a.UUID); err != nil {
			slog.Error("a destroyed SR's filesystem could not be unmounted; detaching the SR tries again", "path", a.Path, "err", err)
		}
		return nil
	})
}

// destroy ends the SR. whole says that its filesystem goes with it.
func destroy(a attached.SR, check func(*SR) error, whole bool) error {
	// The lock that SR.create takes: nobody makes a new SR here while we erase.
	root, err := dirfs.OpenDir(a.Path)
	if err != nil {
		return absent(a, err)
	}
	defer root.Close()
	lock, err := root.LockSelf()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if done, err := eraseDestroyed(root, a.UUID, whole); done || err != nil {
		return err
	}
	s, err := open(a, dirfs.Exclusive)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := check(s); err != nil {
		return err
	}
	if err := s.end(); err != nil {
		return err
	}
	s.ownsFilesystem = whole
	// The SR is gone. What is left of it goes now, or when somebody attaches it or
	// makes another one here.
	if err := s.erase(func(string) (bool, error) { return true, nil }); err != nil {
		slog.Error("a destroyed SR's files could not all be removed", "path", a.Path, "err", err)
	}
	return nil
}

// end is the commit of a destruction. On error the SR lives.
func (s *SR) end() (err error) {
	defer func() {
		if err != nil {
			s.Control.Remove(layout.DestroyManifest)
		}
	}()
	if err := s.writeDestroyManifest(); err != nil {
		return fmt.Errorf("writing down what is to be removed: %w", err)
	}
	if err := s.Root.Rename(layout.MarkerFile, s.Root, layout.TombstoneFile); err != nil {
		return fmt.Errorf("removing the marker: %w", err)
	}
	if err := s.Root.Sync(); err != nil {
		return errors.Join(err, s.Root.Rename(layout.TombstoneFile, s.Root, layout.MarkerFile))
	}
	return nil
}

// eraseDestroyed finishes a destruction that a crash interrupted, of the SR with
// that UUID, or of any if uuid is "". whole says that the filesystem goes with it. The
// caller holds the directory's lock.
func eraseDestroyed(root *dirfs.Dir, uuid string, whole bool) (done bool, err error) {
	m, err := layout.ReadDestroyed(root)
	if err != nil || m == nil || uuid != "" && m.UUID != uuid {
		return false, err
	}
	s := &SR{Path: root.Path(), Root: root, Meta: m, ownsFilesystem: whole}
	s.Control, err = root.Sub(layout.ControlDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	defer s.Control.Close()
	ours, err := s.readDestroyManifest()
	if err != nil {
		return false, err
	}
	return true, s.erase(ours)
}

// finishErase is eraseDestroyed for SR.attach.
func finishErase(root *dirfs.Dir, c source.Configuration) error {
	lock, err := root.LockSelf()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	_, err = eraseDestroyed(root, c.UUID, c.OwnsFilesystem())
	return err
}

// erase removes a destroyed SR's files. The tombstone goes last of all, for it is
// what says that they are ours.
//
// Of the volumes' files only those go that are ours: somebody may have put others there
// since the SR was destroyed, a backup perhaps.
func (s *SR) erase(ours mine) error {
	names, err := s.Root.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		key, err := ParseKey(strings.TrimSuffix(name, ".inf"))
		if err != nil || name != Record(key) {
			continue
		}
		record, e1 := ours(name)
		data, e2 := ours(Data(key))
		if err := errors.Join(e1, e2); err != nil {
			return err
		}
		if !record || !data {
			continue
		}
		// Data first: a record alone still tells whose the data was.
		if err := s.Root.RemoveFile(Data(key)); err != nil {
			return err
		}
		if err := s.Root.RemoveFile(name); err != nil {
			return err
		}
	}
	if s.Control != nil {
		if err := s.eraseControl(ours); err != nil {
			return err
		}
	}
	if err := s.Root.Sync(); err != nil {
		return err
	}
	if s.ownsFilesystem {
		// With nothing else in it the filesystem goes, at unmount, and the tombstone with
		// it: until then that says that it may.
		if names, err := s.Root.Names(); err != nil || len(names) == 1 {
			return err
		}
	}
	if err := s.Root.Remove(layout.TombstoneFile); err != nil {
		return err
	}
	return s.Root.Sync()
}

func (s *SR) eraseControl(ours mine) error {
	for _, sub := range slices.Sorted(maps.Keys(s.Subdirs())) {
		if err := s.eraseDir(sub, ours); err != nil {
			return err
		}
	}
	if s.Root.Remote() {
		if err := s.expelLock(); err != nil {
			return err
		}
	}
	if err := s.eraseHosts(); err != nil {
		return err
	}
	for _, name := range append([]string{"lock", layout.DestroyManifest, layout.SequenceFile}, layout.ShortLocks...) {
		if err := s.Control.Remove(name); err != nil {
			return err
		}
	}
	if err := s.Root.Rmdir(layout.ControlDir); err != nil {
		slog.Warn("the control directory is not empty and stays", "dir", s.Control.Path(), "err", err)
	}
	return nil
}

// eraseDir empties a control directory of what is named like ours, and removes it.
func (s *SR) eraseDir(sub string, ours mine) error {
	dir, err := s.Control.Sub(sub)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		// A staged record without its data in staging: its data is in root.
		if key, kind, ok := StagedName(name); ok && kind == ".inf" && sub == "staging" {
			data, err := ours(Data(key))
			if err == nil && data {
				err = s.Root.RemoveFile(Data(key))
			}
			if err != nil {
				return err
			}
		}
		if _, _, ok := StagedName(strings.TrimSuffix(name, PendingCBT)); ok || name == layout.MarkerFile+".new" || strings.HasSuffix(name, ".json") {
			if err := dir.RemoveFile(name); err != nil {
				return err
			}
		}
	}
	if err := s.Control.Rmdir(sub); err != nil {
		slog.Warn("a control directory is not empty and stays", "dir", dir.Path(), "err", err)
	}
	return nil
}
