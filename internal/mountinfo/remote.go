package mountinfo

import (
	"slices"
	"strings"

	"reflinksr/internal/sys"
)

// Remote are where filesystems are mounted that a server or a program serves: one
// that is away does not answer who looks at a file of it.
func Remote() (paths []string) {
	for _, e := range Parse(sys.Text("/proc/thread-self/mountinfo")) {
		if IsRemote(e.Kind) {
			paths = append(paths, strings.TrimSuffix(e.Path, "/")+"/")
		}
	}
	return paths
}

// IsRemote says whether a server or a program serves filesystems of that kind.
func IsRemote(kind string) bool {
	return slices.ContainsFunc([]string{"nfs", "cifs", "smb", "ceph", "fuse", "9p", "afs", "glusterfs"}, func(k string) bool { return strings.HasPrefix(kind, k) })
}

// LeadsTo says whether a path leads through one of those.
func LeadsTo(path string, mounts []string) bool {
	return slices.ContainsFunc(mounts, func(mount string) bool { return strings.HasPrefix(path+"/", mount) })
}
