package datapath

import (
	"net/url"
	"path/filepath"
	"strings"

	"reflinksr/internal/fault"
)

// Remote is where a mirror goes: an NBD server's UNIX socket, and the name of a disk there.
type Remote struct{ Socket, Name string }

// ParseRemote reads nbd+unix:///NAME?socket=PATH.
func ParseRemote(text string) (Remote, error) {
	u, err := url.Parse(text)
	if err == nil && u.Scheme == "nbd+unix" && u.Host == "" && u.User == nil && u.Fragment == "" {
		r := Remote{Socket: u.Query().Get("socket"), Name: strings.TrimPrefix(u.Path, "/")}
		if filepath.IsAbs(r.Socket) && len(r.Socket) <= mostSocket && !strings.ContainsRune(r.Socket, 0) {
			return r, nil
		}
	}
	return Remote{}, fault.Hint(fault.Errorf(fault.ErrInvalid, fault.Shorten(text), "%q is no address of an NBD server that can be mirrored to", fault.Shorten(text)),
		"it has the form nbd+unix:///NAME?socket=/PATH, with a path of at most %d bytes", mostSocket)
}
