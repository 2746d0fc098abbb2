package volume

import (
	"net/url"
	"path"
	"strings"

	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/sr"
)

// Scheme is the URI scheme of our volumes, which is the name of the datapath
// plugin that serves them.
const Scheme = "loop+blkback"

// URI is the address of a volume for its datapath: the SR's path, the key, and
// the SR's UUID so that another SR on the same path is not mistaken for it.
func URI(s *sr.SR, key sr.Key) string {
	return URIAt(s.Path, s.Meta.UUID, key)
}

// URIAt is URI for an SR that need not be there.
func URIAt(dir, uuid string, key sr.Key) string {
	u := url.URL{Scheme: Scheme, Path: path.Join(dir, string(key)), RawQuery: "sr=" + uuid}
	return u.String()
}

// ParseURI takes a URI apart into the SR's handle, its UUID and the key.
// ErrVolumeNotFound if it is none of ours.
func ParseURI(uri string) (handle, uuid string, key sr.Key, err error) {
	bad := fault.Errorf(fault.ErrVolumeNotFound, uri, "%q is not the URI of a volume of this plugin", uri)
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != Scheme || u.Host != "" || u.User != nil || u.Fragment != "" {
		return "", "", "", bad
	}
	dir, name := path.Split(u.Path)
	key, err = sr.ParseKey(name)
	if err != nil {
		return "", "", "", bad
	}
	uuid, ok := strings.CutPrefix(u.RawQuery, "sr=")
	if !ok {
		return "", "", "", bad
	}
	handle = layout.Handle(path.Clean(dir), uuid)
	if _, _, err := layout.ParseHandle(handle); err != nil {
		return "", "", "", bad
	}
	return handle, uuid, key, nil
}
