package mountinfo

import (
	"path/filepath"
	"strings"

	"reflinksr/internal/sys"
)

// Near returns a function that says whether what the kernel calls by a path may be on the
// filesystem of the directory root: false only if it is certain that it is on another one.
// It looks at nothing but names. Who asked the file itself would wait for whatever server or
// disk that is on, and be told of errors that are none of ours.
func Near(root string) func(path string) bool {
	if real, err := filepath.EvalSymlinks(root); err == nil {
		root = real
	}
	return near(Parse(sys.Text("/proc/self/mountinfo")), root)
}

// near is Near among those mounts, of a root without links.
func near(mounts []Entry, root string) func(path string) bool {
	over := func(path string) (on Entry) {
		for _, m := range mounts { // of those at one place the last one is seen
			if len(m.Path) >= len(on.Path) && (m.Path == "/" || path == m.Path || strings.HasPrefix(path, m.Path+"/")) {
				on = m
			}
		}
		return on
	}
	own := over(root)
	return func(path string) bool {
		// What is in no mount that is to be seen from here is called as if it were in the root.
		on := over(path)
		return on.Device == own.Device || on.Path == "/" || on.Path == "" || own.Path == ""
	}
}
