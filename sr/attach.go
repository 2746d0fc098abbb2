package sr

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
	"reflinksr/internal/reflink"
	"reflinksr/internal/source"
)

// Attach makes the SR of the configuration usable on this host, finishes what a
// crash left unfinished, and returns the handle for all other calls. Attaching
// again is no error.
func Attach(conf map[string]string) (string, error) { return AttachBy("", conf) }

// AttachBy is Attach by one of the toolstack's interfaces (attached.SR.Interface): fault.ErrSRInUse if the SR is attached by another.
func AttachBy(by string, conf map[string]string) (string, error) {
	c, err := source.Parse(conf)
	if err != nil {
		return "", err
	}
	for _, name := range c.Unknown {
		slog.Info("an unknown configuration key is ignored", "key", name, "path", c.Path)
	}
	if !c.Mounts() {
		return attach(by, c)
	}
	if c.UUID == "" {
		return "", fault.Errorf(fault.ErrInvalid, "sr_uuid", "configuration %q is missing: the UUID of the SR on %s, which its creation answered and a probe finds", "sr_uuid", c.Source)
	}
	handle := ""
	err = source.WithNote(c.UUID, func(notes *dirfs.Dir) error {
		if err := attached.MustBeBy(by, c.UUID); err != nil {
			return err
		}
		if err := c.Mount(notes); err != nil {
			return err
		}
		handle, err = attach(by, c)
		if err != nil {
			source.RemoveNote(notes, c.UUID)
		}
		return err
	})
	return handle, err
}

// attach is Attach once the SR's filesystem is mounted.
func attach(by string, c source.Configuration) (string, error) {
	root, err := source.OpenPath(c.Path)
	if err != nil {
		return "", err
	}
	defer root.Close()
	m, err := layout.ReadMeta(root)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := finishErase(root, c); err != nil {
			return "", err
		}
		return "", fault.Hint(fault.Errorf(fault.ErrSRNotFound, c.Path, "%s holds no SR", c.Path),
			"is its filesystem mounted? create one there; a simple file SR is adopted")
	case err != nil:
		return "", err
	case c.UUID != "" && c.UUID != m.UUID:
		return "", fault.Errorf(fault.ErrSRNotFound, c.Path, "%s holds SR %s, not %s: is the right filesystem mounted?", c.Path, m.UUID, c.UUID)
	}
	if err := (&SR{Path: c.Path, Root: root}).SameFilesystem(m); err != nil {
		return "", err
	}
	a := attached.SR{Path: c.Path, UUID: m.UUID, Name: m.Name, Description: m.Description, Interface: by}
	err = attached.With(m.UUID, func(dir *dirfs.Dir) error {
		if err := errors.Join(mayAttach(&a, root, m.Options.Attributes()), attached.MustBeBy(by, m.UUID)); err != nil {
			return err
		}
		if _, err := attached.Lookup(m.UUID); errors.Is(err, os.ErrNotExist) {
			removeSequenceNote(m.UUID) // others may have used the SR since
		}
		if err := enlist(a); err != nil {
			return fmt.Errorf("SR %s: %w", a.Path, err)
		}
		return a.SaveIn(dir)
	})
	return a.Handle(), err
}

// mayAttach checks that the SR can be attached, and recovers it.
func mayAttach(a *attached.SR, root *dirfs.Dir, data reflink.Attributes) error {
	before, unknown := attached.Lookup(a.UUID)
	var there error
	if unknown == nil && before.Path != a.Path {
		other, err := verify(before)
		if there = err; err == nil {
			other.Close()
		}
	}
	if err := succeed(a, before, unknown, there); err != nil {
		return err
	}
	// A full or read-only filesystem cannot be asked, and is attached for what can
	// still be done with it.
	cannotAsk := func(err error) bool {
		return fault.Classify(err) == fault.ErrReadOnly || fault.Classify(err) == fault.ErrNoSpace
	}
	if err := filesystem.Probe(root, data); err != nil && !cannotAsk(err) {
		return err
	}
	if err := makeMissingAt(*a, root); err != nil && !cannotAsk(err) {
		return fmt.Errorf("SR %s: %w", a.Path, err)
	}
	if err := removeStaleMarker(*a, root); err != nil && !cannotAsk(err) {
		return fmt.Errorf("SR %s: recovery: %w", a.Path, err)
	}
	s, err := open(*a, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Recover(); err != nil && !cannotAsk(err) {
		return fmt.Errorf("SR %s: recovery: %w", a.Path, err)
	}
	return nil
}

// succeed decides whether an SR can be attached after what this host noted of it before:
// unknown is what kept that from being read (os.ErrNotExist: nothing was noted), there what
// a look at the other place that it tells of came to. What is noted of this place is kept.
func succeed(a *attached.SR, before attached.SR, unknown, there error) error {
	switch {
	case fault.Unseen(unknown):
		return unknown
	case unknown != nil:
		return nil
	case before.Path == a.Path:
		a.Recovered = before.Recovered
		return nil
	case fault.Unseen(there):
		return fmt.Errorf("SR %s is attached at %s, and whether it still is there cannot be told: %w: detach it first", a.UUID, before.Path, there)
	case there == nil:
		return fault.Errorf(fault.ErrSRInUse, a.Path, "SR %s is already attached at %s: %s is a second mount of it, or a copy", a.UUID, before.Path, a.Path)
	}
	return nil
}

// makeMissingAt is makeMissing, unless the SR has been destroyed meanwhile.
func makeMissingAt(a attached.SR, root *dirfs.Dir) error {
	lock, err := root.LockSelf() // SR.destroy's
	if err != nil {
		return err
	}
	defer lock.Unlock()
	m, err := layout.ReadMeta(root)
	switch {
	case errors.Is(err, os.ErrNotExist), err == nil && m.UUID != a.UUID:
		return gone(a, "it was destroyed meanwhile")
	case err != nil:
		return err
	}
	return makeMissing(root)
}

// removeStaleMarker removes an unfinished rewrite of the marker, and the list of a
// destruction that was not to be, unless somebody is at it now.
func removeStaleMarker(a attached.SR, root *dirfs.Dir) error {
	control, err := root.Sub(layout.ControlDir)
	if err != nil {
		return err
	}
	defer control.Close()
	lock, err := control.LockFile("lock", "SR "+a.Path, dirfs.Exclusive, true)
	if errors.Is(err, fault.ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Unlock()
	staging, err := control.Sub("staging")
	if err != nil {
		return err
	}
	defer staging.Close()
	return errors.Join(staging.Remove(layout.MarkerFile+".new"), control.Remove(layout.DestroyManifest))
}

// makeMissing makes control directories that are missing: only their names were ever
// durable by necessity, and a restored backup may lack empty ones.
func makeMissing(root *dirfs.Dir) error {
	s := &SR{Root: root}
	var err error
	if s.Control, err = root.Mkdir(layout.ControlDir); err != nil {
		return err
	}
	defer s.Control.Close()
	err = s.makeSubdirs()
	for _, dir := range s.Subdirs() {
		(*dir).Close()
	}
	return err
}
