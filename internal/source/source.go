package source

import (
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"reflinksr/internal/fault"
	"reflinksr/internal/mount"
	"reflinksr/internal/uuids"
)

// Source is what is mounted for an SR that is configured by a device or by an export.
// It is the zero Source of an SR that is configured by a path, which somebody else mounts.
type Source struct {
	Device         string `json:"device,omitempty"`          // absolute path of the disk; it may be another name after a boot
	FilesystemUUID string `json:"filesystem_uuid,omitempty"` // of the filesystem on the disk
	Server         string `json:"server,omitempty"`          // of the export: host name or IP address
	ServerPath     string `json:"serverpath,omitempty"`      // on that, absolute
}

func (s Source) String() string {
	if s.Server != "" {
		return s.export()
	}
	return s.Device
}

// Kinds are the ways to say where an SR is, of which a configuration has one.
var Kinds = []struct {
	Key  string   // that says where
	With []string // go with it only
}{
	{"path", nil},
	{"device", []string{"filesystem", "mkfs", "wipe", "filesystem_uuid"}},
	{"server", []string{"serverpath"}},
}

// checkSources refuses configurations that say where the SR is in several ways, or in none.
func checkSources(conf map[string]string) error {
	given := ""
	for _, s := range Kinds {
		_, there := conf[s.Key]
		if there && given != "" {
			return fault.Errorf(fault.ErrInvalid, s.Key, "configuration %q and %q exclude each other: an SR is configured by path, by device, or by server and serverpath", given, s.Key)
		}
		if there {
			given = s.Key
		}
	}
	for _, s := range Kinds {
		for _, with := range s.With {
			if _, there := conf[with]; there && given != s.Key {
				return fault.Errorf(fault.ErrInvalid, with, "configuration %q goes with %q only", with, s.Key)
			}
		}
	}
	if given == "" {
		return fault.Errorf(fault.ErrInvalid, "path", "configuration %q is missing: the absolute path of the SR's directory; or say device, or server and serverpath", "path")
	}
	return nil
}

// parseSource reads what of a configuration is about a device or an export.
func (c *Configuration) parseSource(conf map[string]string) error {
	if device, given := conf["device"]; given {
		return c.parseDevice(device, conf)
	}
	server, err := cleanServer(conf["server"])
	if err != nil {
		return err
	}
	path := conf["serverpath"]
	switch {
	case !filepath.IsAbs(path):
		return fault.Errorf(fault.ErrInvalid, "serverpath", "configuration %q is %q, it must be the absolute path of an export of %s", "serverpath", fault.Shorten(path), server)
	case len(path) > 1000, !printable(path):
		return fault.Errorf(fault.ErrInvalid, "serverpath", "configuration %q is %q, which cannot be an export's", "serverpath", fault.Shorten(path))
	}
	c.Server, c.ServerPath = server, filepath.Clean(path)
	return nil
}

// How a filesystem is made.
const byProgram, byTemplate = "program", "template"

func (c *Configuration) parseDevice(device string, conf map[string]string) error {
	switch {
	case !filepath.IsAbs(device):
		return fault.Errorf(fault.ErrInvalid, "device", "configuration %q is %q, it must be an absolute path, as /dev/sdb or /dev/disk/by-id/…", "device", fault.Shorten(device))
	case len(device) > 1000, !printable(device):
		return fault.Errorf(fault.ErrInvalid, "device", "configuration %q is %q, which cannot be a device's", "device", fault.Shorten(device))
	}
	c.Device = filepath.Clean(device)
	c.Filesystem = "xfs"
	if kind, given := conf["filesystem"]; given {
		if kind != "xfs" && kind != "btrfs" {
			return fault.Errorf(fault.ErrInvalid, "filesystem", "configuration %q is %q, it must be xfs or btrfs", "filesystem", fault.Shorten(kind))
		}
		c.Filesystem = kind
	}
	if how, given := conf["mkfs"]; given {
		if how != byProgram && how != byTemplate {
			return fault.Errorf(fault.ErrInvalid, "mkfs", "configuration %q is %q, it must be program or template", "mkfs", fault.Shorten(how))
		}
		if how == byTemplate && c.Filesystem != "xfs" {
			return fault.Hint(fault.Errorf(fault.ErrInvalid, "mkfs", "configuration \"mkfs\" is %q, and there is a template for xfs only", how),
				"leave it out, or say filesystem=xfs")
		}
		c.Mkfs = how
	}
	if wipe, given := conf["wipe"]; given {
		if wipe != "yes" && wipe != "no" {
			return fault.Errorf(fault.ErrInvalid, "wipe", "configuration %q is %q, it must be yes or no", "wipe", fault.Shorten(wipe))
		}
		c.Wipe = wipe == "yes"
	}
	c.FilesystemUUID = strings.ToLower(conf["filesystem_uuid"])
	if c.FilesystemUUID != "" && !uuids.IsCanonical(c.FilesystemUUID) {
		return fault.Errorf(fault.ErrInvalid, "filesystem_uuid", "configuration %q is %q, which is no UUID", "filesystem_uuid", fault.Shorten(c.FilesystemUUID))
	}
	return nil
}

// Complete completes the configuration of the SR with that UUID: where its filesystem is
// mounted, and which that is.
func (c *Configuration) Complete(uuid string) {
	c.UUID = uuid
	if !c.Mounts() {
		return
	}
	c.Path = mount.Point(uuid)
	if c.Device != "" && c.FilesystemUUID == "" {
		c.FilesystemUUID = uuid // as SR.create makes it
	}
}

// Mounts says whether SR.attach mounts the SR's filesystem.
func (s Source) Mounts() bool { return s.Device != "" || s.Server != "" }

// OwnsFilesystem says whether the filesystem was made for the SR, is all of its disk, and goes with it.
func (c Configuration) OwnsFilesystem() bool { return c.Device != "" && c.FilesystemUUID == c.UUID }

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
