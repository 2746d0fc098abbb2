package opennebula

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"reflinksr/internal/fault"
)

// Dump is what an action of a datastore is about.
type Dump struct {
	XMLName           xml.Name  `xml:"DS_DRIVER_ACTION_DATA"`
	Image             Image     `xml:"IMAGE"`
	Datastore         Datastore `xml:"DATASTORE"`
	Location          string    `xml:"DATASTORE_LOCATION"`
	TargetSnapshotOld string    `xml:"TARGET_SNAPSHOT"`
	NewSize           string    `xml:"EXTRA_DATA>SIZE"` // MiB that an image is to have
	Remotes           string    `xml:"-"`               // the directory in which the drivers are
}

// Image is an image as oned knows it.
type Image struct {
	ID             string `xml:"ID"`
	Path           string `xml:"PATH"`
	Source         string `xml:"SOURCE"`
	Format         string `xml:"FORMAT"`
	OldFormat      string `xml:"FSTYPE"` // up to 5.12, FORMAT or FS in one
	FS             string `xml:"FS"`
	Size           string `xml:"SIZE"` // MiB
	Type           string `xml:"TYPE"`
	TargetSnapshot string `xml:"TARGET_SNAPSHOT"`
	MD5            string `xml:"TEMPLATE>MD5"`
	SHA1           string `xml:"TEMPLATE>SHA1"`
	Driver         string `xml:"TEMPLATE>DRIVER"`
}

// Datastore is a datastore as oned knows it.
type Datastore struct {
	ID         string `xml:"ID"`
	BasePath   string `xml:"BASE_PATH"`
	Type       string `xml:"TYPE"`
	Restricted string `xml:"TEMPLATE>RESTRICTED_DIRS"`
	Safe       string `xml:"TEMPLATE>SAFE_DIRS"`
	Bridges    string `xml:"TEMPLATE>BRIDGE_LIST"`
	Convert    string `xml:"TEMPLATE>CONVERT"`
	Driver     string `xml:"TEMPLATE>DRIVER"`
	AllowCopy  string `xml:"TEMPLATE>REFLINK_ALLOW_COPY"`
	Compressed string `xml:"TEMPLATE>NO_DECOMPRESS"`
	Bandwidth  string `xml:"TEMPLATE>LIMIT_TRANSFER_BW"`
}

func parseDump(text string) (d Dump, err error) {
	data, err := decode(text)
	if err != nil {
		return d, err
	}
	if err := xml.Unmarshal(data, &d); err != nil {
		return d, fault.Errorf(fault.ErrInvalid, "dump", "the dump is no DS_DRIVER_ACTION_DATA: %w", err)
	}
	return d, nil
}

// Base is the directory of the datastore.
func (d Dump) Base() (string, error) {
	if d.Datastore.BasePath != "" {
		return filepath.Clean(d.Datastore.BasePath), nil
	}
	if d.Datastore.ID == "" {
		return "", fault.Errorf(fault.ErrInvalid, "dump", "the dump has neither a datastore's BASE_PATH nor its ID")
	}
	return filepath.Join(d.Where(), filepath.Base(d.Datastore.ID)), nil
}

// Where is the directory in which all datastores are.
func (d Dump) Where() string {
	if d.Location != "" {
		return filepath.Clean(d.Location)
	}
	return filepath.Join(Var(), "datastores")
}

// Var is the directory of oned's state.
func Var() string {
	if l := os.Getenv("ONE_LOCATION"); l != "" {
		return filepath.Join(l, "var")
	}
	return "/var/lib/one"
}

// Etc is the directory of oned's configuration.
func Etc() string {
	if l := os.Getenv("ONE_LOCATION"); l != "" {
		return filepath.Join(l, "etc")
	}
	return "/etc/one"
}

// Snapshot is the number of the snapshot that the action is about.
func (d Dump) Snapshot() (int, error) {
	text := d.Image.TargetSnapshot
	if text == "" || text == "-1" {
		text = d.TargetSnapshotOld
	}
	n, err := ParseID("TARGET_SNAPSHOT", text)
	if err != nil || n < 0 {
		return 0, fault.Errorf(fault.ErrInvalid, "TARGET_SNAPSHOT", "the snapshot's number TARGET_SNAPSHOT is missing or wrong: %q", fault.Shorten(text))
	}
	return n, nil
}

// MakeFormat is the format of a new image.
func (i Image) MakeFormat() string {
	switch {
	case i.Format != "":
		return i.Format
	case i.Driver != "":
		return i.Driver
	case i.OldFormat == "qcow2", i.OldFormat == "save_as":
		return i.OldFormat
	}
	return "raw"
}

// MakeFS is what a new image is to be formatted with.
func (i Image) MakeFS() string {
	if i.FS == "" && i.OldFormat != "raw" && i.OldFormat != "qcow2" && i.OldFormat != "save_as" {
		return i.OldFormat
	}
	return i.FS
}

// IsFile says whether an image is data of which nobody looks at the format: a kernel, a file for contextualization.
func (d Dump) IsFile() bool {
	return d.Datastore.Type == "2" || d.Image.Type == "3" || d.Image.Type == "4" || d.Image.Type == "5"
}

// Bytes reads a number of MiB.
func Bytes(name, text string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n <= 0 || n > 1<<39 {
		return 0, fault.Errorf(fault.ErrSize, name, "%s is no size in MiB: %q", name, fault.Shorten(text))
	}
	return n << 20, nil
}

// ParseID reads the number of a guest, a disk or a snapshot; -1 is none.
func ParseID(name, text string) (int, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < -1 || strconv.FormatInt(n, 10) != text {
		return 0, fault.Errorf(fault.ErrInvalid, name, "%s is no number: %q", name, fault.Shorten(text))
	}
	return int(n), nil
}
