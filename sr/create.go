package sr

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
	"reflinksr/internal/source"
	"reflinksr/internal/uuids"
)

// Create makes the directory of the configuration an SR: it proves that the
// filesystem shares blocks, then writes the marker, which is the commit. A simple
// file SR that is already there (pairs <uuid>, <uuid>.inf) becomes part of it, in
// place; foreign files are left alone. It returns the configuration that Attach
// needs from now on. Repeating a Create that succeeded returns it again.
func Create(uuid string, conf map[string]string, name, description string) (map[string]string, error) {
	id := strings.ToLower(uuid)
	if !uuids.IsCanonical(id) {
		return nil, fault.Errorf(fault.ErrInvalid, "uuid", "the UUID for the SR is %q, which is none", fault.Shorten(uuid))
	}
	if err := errors.Join(source.CheckText("name", name), source.CheckText("description", description)); err != nil {
		return nil, err
	}
	c, err := source.Parse(conf)
	if err != nil {
		return nil, err
	}
	if len(c.Unknown) > 0 {
		return nil, fault.Errorf(fault.ErrInvalid, c.Unknown[0], "configuration %q is unknown; known are %s", fault.Shorten(c.Unknown[0]), strings.Join(slices.Sorted(maps.Keys(source.OptionHelp)), ", "))
	}
	if c.UUID != "" && c.UUID != id {
		return nil, fault.Errorf(fault.ErrInvalid, "sr_uuid", "configuration \"sr_uuid\" is %s, but SR %s is to be made", c.UUID, id)
	}
	c.Complete(id)
	other, err := attached.Lookup(id)
	if fault.Unseen(err) {
		return nil, err
	}
	if err == nil && other.Path != c.Path {
		return nil, fault.Hint(fault.Errorf(fault.ErrSRExists, id, "SR %s is attached on this host already, at %s", id, other.Path),
			"choose another UUID")
	}
	create := func(root *dirfs.Dir) error { return createIn(c, root, conf, name, description) }
	switch {
	case c.Device != "":
		if _, given := conf["datacow"]; given && c.Filesystem != "btrfs" {
			return nil, fault.Hint(fault.Errorf(fault.ErrInvalid, "datacow", "configuration \"datacow\" is for btrfs"),
				"say filesystem=btrfs")
		}
		err = source.WithNote(id, func(*dirfs.Dir) error { return c.CreateOnDisk(create) })
	case c.Server != "":
		err = source.WithNote(id, func(*dirfs.Dir) error { return c.CreateOnExport(create) })
	default:
		err = c.CreateAtPath(create)
	}
	if err != nil {
		return nil, err
	}
	return answer(c, conf), nil
}

// createIn makes the open directory the SR of the configuration.
func createIn(c source.Configuration, root *dirfs.Dir, conf map[string]string, name, description string) error {
	// Two creations of one directory exclude each other by a lock on the directory
	// itself: nothing is written to it yet.
	lock, err := root.LockSelf()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	switch m, err := layout.ReadMeta(root); {
	case err == nil && m.UUID == c.UUID:
		return sameOptions(m, c, conf)
	case err == nil:
		return fault.Hint(fault.Errorf(fault.ErrSRExists, c.Path, "%s already holds SR %s %q", c.Path, m.UUID, fault.Shorten(m.Name)),
			"attach that one, or choose another directory")
	case fault.Unseen(err):
		return fmt.Errorf("whether %s holds an SR already: %w", c.Path, err)
	case !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s already holds an SR: %w", c.Path, err)
	}
	fs, err := filesystem.Of(root)
	if err == nil {
		err = fs.Sole(c.Path)
	}
	if err != nil {
		return err
	}
	if err := filesystem.Probe(root, c.Options.Attributes()); err != nil {
		return err
	}
	if _, given := conf["datacow"]; given && fs.Type != "btrfs" {
		return fault.Errorf(fault.ErrInvalid, "datacow", "configuration \"datacow\" is for btrfs; %s is %s", c.Path, fs.Type)
	}
	if _, err := eraseDestroyed(root, "", false); err != nil {
		return fmt.Errorf("finishing the destruction of the SR that was in %s: %w", c.Path, err)
	}
	s := &SR{Path: c.Path, Root: root}
	defer s.closeControl() // it may have to be unmounted
	if err := s.begin(); err != nil {
		s.abandon()
		return fmt.Errorf("preparing %s: %w", c.Path, err)
	}
	m := &layout.Meta{
		Format: layout.Format, UUID: c.UUID, Name: name, Description: description,
		Created: time.Now().UTC().Truncate(time.Second), Filesystem: fs, Options: c.Options,
	}
	if err := s.writeMeta(m); err != nil {
		s.abandon()
		return fmt.Errorf("writing %s: %w", root.Join(layout.MarkerFile), err)
	}
	return nil
}

// sameOptions refuses to make an SR again with other options than it has.
func sameOptions(m *layout.Meta, c source.Configuration, conf map[string]string) error {
	if _, given := conf["sector_size"]; given && c.Options.SectorSize != m.Options.SectorSize {
		return fault.Errorf(fault.ErrInvalid, "sector_size", "SR %s is there already, with sector_size %d", m.UUID, m.Options.SectorSize)
	}
	if _, given := conf["datacow"]; given && c.Options.DataCOW != m.Options.DataCOW {
		return fault.Errorf(fault.ErrInvalid, "datacow", "SR %s is there already, with another datacow", m.UUID)
	}
	return nil
}

// begin makes the control directory.
func (s *SR) begin() error {
	var err error
	if s.Control, err = s.Root.Mkdir(layout.ControlDir); err != nil {
		return err
	}
	return s.makeSubdirs()
}

func (s *SR) makeSubdirs() error {
	for name, dir := range s.Subdirs() {
		(*dir).Close()
		var err error
		if *dir, err = s.Control.Mkdir(name); err != nil {
			return err
		}
	}
	// Made now, while there is room: see LockLeases.
	for _, name := range layout.ShortLocks {
		lock, err := s.Control.OpenLock(name)
		if err != nil {
			return err
		}
		lock.Close()
	}
	return nil
}

// abandon removes what begin made, if it is empty.
func (s *SR) abandon() {
	if s.Control != nil {
		s.Control.Remove("lock")
		for _, name := range layout.ShortLocks {
			s.Control.Remove(name)
		}
		for name := range s.Subdirs() {
			s.Control.Rmdir(name)
		}
	}
	s.Root.Rmdir(layout.ControlDir)
}

// answer is the configuration that SR.attach needs.
func answer(c source.Configuration, conf map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range conf {
		if !source.FromToolstack[k] && !source.ForCreate(k, v) {
			out[k] = v
		}
	}
	out["sr_uuid"] = c.UUID
	if c.Device != "" {
		out["filesystem_uuid"] = c.FilesystemUUID
	}
	return out
}
