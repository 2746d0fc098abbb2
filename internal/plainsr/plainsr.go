// Package plainsr makes an SR in any directory, for tests of what needs neither root nor shared blocks. Nothing but tests
// imports it.
package plainsr

import (
	"os"
	"path/filepath"
	"time"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
	"reflinksr/internal/rundir"
)

// UUID is that of every SR that Make makes.
const UUID = "5a1d8c5a-3f0b-4a93-8f0e-1a2b3c4d5e6f"

// Parts are the directories that an SR's control directory has.
var Parts = []string{"staging", "leases", "locks", "cbt"}

// Make makes the directory sr below dir an SR as SR.create would, whether its filesystem can share blocks or not, and
// attaches it: what this boot notes of it is from now on in the directory run beside it. The handle is the SR's.
func Make(dir string) (handle, path string, err error) {
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", "", err
	}
	path = filepath.Join(dir, "sr")
	for _, part := range Parts {
		if err := os.MkdirAll(filepath.Join(path, layout.ControlDir, part), 0o700); err != nil {
			return "", "", err
		}
	}
	root, err := dirfs.OpenDir(path)
	if err != nil {
		return "", "", err
	}
	defer root.Close()
	fs, err := filesystem.Of(root)
	if err != nil {
		return "", "", err
	}
	m := &layout.Meta{Format: layout.Format, UUID: UUID, Name: "plain", Created: time.Now().UTC().Truncate(time.Second), Filesystem: fs, Options: layout.Options{SectorSize: 512, DataCOW: true}}
	data, err := m.Encode()
	if err != nil {
		return "", "", err
	}
	for _, name := range append([]string{"lock"}, layout.ShortLocks...) {
		if err := os.WriteFile(filepath.Join(path, layout.ControlDir, name), nil, 0o600); err != nil {
			return "", "", err
		}
	}
	if err := os.WriteFile(filepath.Join(path, layout.MarkerFile), data, 0o600); err != nil {
		return "", "", err
	}
	rundir.Path = filepath.Join(dir, "run")
	a := attached.SR{Path: path, UUID: UUID, Name: m.Name}
	return a.Handle(), path, attached.With(UUID, a.SaveIn)
}
