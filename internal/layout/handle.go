package layout

import (
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"reflinksr/internal/fault"
	"reflinksr/internal/uuids"
)

// Handle is the string by which callers name an attached SR: a file URI of its
// path with the SR's UUID, so that another SR on the same path is not mistaken
// for it. Opaque to callers.
func Handle(path, uuid string) string {
	u := url.URL{Scheme: "file", Path: path, RawQuery: "uuid=" + uuid}
	return u.String()
}

// ParseHandle is the reverse of Handle. Whatever is no handle names no attached
// SR: ErrNotAttached.
func ParseHandle(handle string) (path, uuid string, err error) {
	bad := fault.Errorf(fault.ErrNotAttached, handle, "SR %q is not attached: it is no handle that attaching one answered", fault.Shorten(handle))
	u, err := url.Parse(handle)
	if err != nil || u.Scheme != "file" || u.Host != "" {
		return "", "", bad
	}
	uuid, ok := strings.CutPrefix(u.RawQuery, "uuid=")
	if !ok || !uuids.IsCanonical(uuid) {
		return "", "", bad
	}
	path, err = CleanPath(u.Path)
	if err != nil || Handle(path, uuid) != handle {
		return "", "", bad
	}
	return path, uuid, nil
}

// CleanPath accepts an absolute path that can be an SR's.
func CleanPath(path string) (string, error) {
	switch {
	case !filepath.IsAbs(path):
		return "", fault.Errorf(fault.ErrInvalid, "path", "path %q is not absolute", fault.Shorten(path))
	case strings.ContainsRune(path, 0), len(path) > 4000, !utf8.ValidString(path):
		return "", fault.Errorf(fault.ErrInvalid, "path", "path %q cannot be a directory's", fault.Shorten(path))
	}
	path = filepath.Clean(path)
	if slices.Contains(strings.Split(path, "/"), ControlDir) {
		return "", fault.Errorf(fault.ErrInvalid, "path", "path %q is inside another SR", fault.Shorten(path))
	}
	return path, nil
}
