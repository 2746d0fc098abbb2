package scripts

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/scripts/owned"
)

// know remembers by which number the kernel knows the filesystem of a directory: that is
// known of a loop device's file also when the filesystem is not mounted any more.
func (s *script) know(dir string) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) == nil {
		if s.disks == nil {
			s.disks = map[uint64]bool{}
		}
		s.disks[st.Dev] = true
	}
}

// release detaches the devices that the scenario has left: of volumes, wherever they are,
// and of any other file in its directory. Others may have volumes of the same name.
func (s *script) release() {
	if len(s.filesystems) == 0 {
		s.know(s.getenv("SR_PATH")) // a lab's, on a filesystem that fs has not made
	}
	keys := s.everyKey()
	owned.Detach(s.loopsWhere(func(file string) bool {
		if s.isImage(file) {
			return false // a filesystem's own, which goes with it
		}
		for key := range keys {
			if strings.Contains(filepath.Base(file), key) {
				return true
			}
		}
		return owned.Below(s.work)(file)
	}))
}

// getenv is for when the scenario has not said a word yet.
func (s *script) getenv(name string) string {
	if s.ts == nil {
		return ""
	}
	return s.ts.Getenv(name)
}

// loopsWhere lists loop devices by their files' paths, as far as they are the scenario's:
// on a filesystem of its own, or below a directory that only it has.
func (s *script) loopsWhere(is func(file string) bool) (ours []owned.Loop) {
	all, _ := owned.Loops(is)
	for _, l := range all {
		if s.disks[l.Dev] || s.below(l.File) {
			ours = append(ours, l)
		}
	}
	return ours
}

func (s *script) below(file string) bool {
	for _, uuid := range s.uuids {
		if owned.Below(mountPoint(uuid))(file) {
			return true
		}
	}
	return owned.Below(s.work)(file)
}

// loopsOf counts the loop devices whose file is named after a key, by sysfs: the
// file itself may be gone.
func loopsOf(key string) int {
	found, _ := owned.Loops(func(file string) bool { return strings.Contains(filepath.Base(file), key) })
	return len(found)
}

// loopsBelow lists those whose file lies in the scenario's directory, but for the
// filesystems' own.
func (s *script) loopsBelow() (paths []string) {
	for _, l := range s.loopsWhere(func(file string) bool { return owned.Below(s.work)(file) && !s.isImage(file) }) {
		paths = append(paths, l.Path())
	}
	return paths
}
