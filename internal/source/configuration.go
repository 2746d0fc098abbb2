package source

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/uuids"
)

// TextLimit bounds names and descriptions, in bytes.
const TextLimit = 64 << 10

// CheckText refuses what cannot be a name or a description; item is which of them it is.
func CheckText(item, text string) error {
	if !utf8.ValidString(text) {
		return fault.Errorf(fault.ErrInvalid, item, "the %s is not valid UTF-8", item)
	}
	if len(text) > TextLimit {
		return fault.Errorf(fault.ErrInvalid, item, "the %s has %d bytes, at most %d are allowed", item, len(text), TextLimit)
	}
	return nil
}

// Configuration is what SR.create and SR.attach are configured with.
type Configuration struct {
	Path string // absolute and clean; where the Source is mounted, if there is one
	UUID string // of the SR that must be there; "" for whichever is
	Source
	Options layout.Options
	Unknown []string // names of options that mean nothing to us

	// For SR.create of a device.
	Filesystem string // that is made on it: "xfs" or "btrfs"
	Mkfs       string // how an XFS is made on it: byProgram, byTemplate, or "" for the former if there is a program that can
	Wipe       bool   // what else is on it may be destroyed
}

// FromToolstack are keys of a configuration that the toolstack adds and that say nothing to us.
var FromToolstack = map[string]bool{"SRmaster": true}

// ForCreate says whether a key of a configuration only says how SR.create makes something.
func ForCreate(key, _ string) bool {
	return key == "wipe" || key == "filesystem" || key == "mkfs"
}

// OptionHelp describes every configuration key, for Plugin.query and --help.
var OptionHelp = map[string]string{
	"path":            "absolute path of a directory on XFS (reflink=1), btrfs, OCFS2 or an NFS 4.2 export that holds the SR",
	"device":          "instead of path: a whole disk or partition; creating the SR makes a filesystem on it, attaching mounts that and detaching unmounts it",
	"filesystem":      "with device, for creating: xfs (default) or btrfs",
	"mkfs":            "with device, for creating an xfs: program = by this host's mkfs.xfs; template = without it; by default the former if it can make one for Linux 4.19 and later",
	"wipe":            "with device, for creating: yes = destroy what is on the device; no (default) = refuse a device that is not blank",
	"filesystem_uuid": "with device: UUID of the filesystem to be looked for on this host's disks (filled in by creating and probing)",
	"server":          "instead of path, with serverpath: name or IP address of an NFS server; attaching mounts the export (vers=4.2, hard) and detaching unmounts it",
	"serverpath":      "with server: absolute path of the export, or of a directory in it, that holds the SR",
	"sr_uuid":         "UUID of the SR that must be found there (filled in by creating and probing)",
	"sector_size":     "logical sector size that guests see on new disks: 512 (default) or 4096",
	"datacow":         "btrfs only: on = new disks are copy-on-write with checksums; off (default) = faster random writes, no checksums",
}

// Parse checks a configuration. Unknown names are collected, not refused.
func Parse(conf map[string]string) (Configuration, error) {
	c := Configuration{Options: layout.Options{SectorSize: 512}}
	for name, value := range conf {
		switch name {
		case "path", "sr_uuid", "device", "filesystem", "mkfs", "wipe", "filesystem_uuid", "server", "serverpath": // below
		case "sector_size":
			n, _ := strconv.Atoi(value)
			if value != "512" && value != "4096" {
				return c, fault.Errorf(fault.ErrInvalid, name, "configuration %q is %q, it must be 512 or 4096", name, fault.Shorten(value))
			}
			c.Options.SectorSize = n
		case "datacow":
			if value != "on" && value != "off" {
				return c, fault.Errorf(fault.ErrInvalid, name, "configuration %q is %q, it must be on or off", name, fault.Shorten(value))
			}
			c.Options.DataCOW = value == "on"
		default:
			if !FromToolstack[name] {
				c.Unknown = append(c.Unknown, name)
			}
		}
	}
	c.UUID = strings.ToLower(conf["sr_uuid"])
	if c.UUID != "" && !uuids.IsCanonical(c.UUID) {
		return c, fault.Errorf(fault.ErrInvalid, "sr_uuid", "configuration %q is %q, which is no UUID", "sr_uuid", fault.Shorten(c.UUID))
	}
	err := checkSources(conf)
	if err != nil {
		return c, err
	}
	if path, given := conf["path"]; given {
		c.Path, err = layout.CleanPath(path)
		return c, err
	}
	if err := c.parseSource(conf); err != nil {
		return c, err
	}
	if c.UUID != "" {
		c.Complete(c.UUID)
	}
	return c, nil
}

// OpenPath opens the directory that a configuration names.
func OpenPath(path string) (*dirfs.Dir, error) {
	d, err := dirfs.OpenDir(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fault.Hint(fault.Errorf(fault.ErrSRNotFound, path, "%s does not exist", path),
			"is its filesystem mounted?")
	case err != nil:
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENAMETOOLONG) || errors.Is(err, unix.ELOOP) {
			return nil, fault.Errorf(fault.ErrInvalid, "path", "%s is not a directory: %v", path, err)
		}
		return nil, fmt.Errorf("opening the SR's directory: %w", err)
	}
	return d, nil
}
