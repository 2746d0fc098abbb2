package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"time"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/record"
	"reflinksr/internal/reflink"
	"reflinksr/internal/uuids"
)

// Format is the newest format of sr.json and of volume records that this version
// writes. What carries a higher number is read-only for us.
const Format = 1

// Meta is sr.json.
type Meta struct {
	Format      int                 `json:"format"`
	UUID        string              `json:"uuid"`
	Name        string              `json:"name"`
	Description string              `json:"description"`
	Created     time.Time           `json:"created"`
	Filesystem  filesystem.Identity `json:"filesystem"`
	Options     Options             `json:"options"`

	unknown record.Unknown
}

// Options are decided at SR.create and never change.
type Options struct {
	// SectorSize is the logical sector size that guests see on new volumes, in bytes.
	SectorSize int `json:"sector_size"`
	// DataCOW keeps btrfs's copy-on-write and checksums for new volumes.
	DataCOW bool `json:"datacow"`
}

// Attributes are those of new data files.
func (o Options) Attributes() reflink.Attributes { return reflink.Attributes{NoCOW: !o.DataCOW} }

// ReadMeta reads the marker of the directory: an error that is os.ErrNotExist
// where there is none.
func ReadMeta(d *dirfs.Dir) (*Meta, error) {
	var data []byte
	err := d.RetryReplaced(ControlDir, func() (err error) {
		data, err = d.Read(MarkerFile, record.Limit)
		return err
	})
	if errors.Is(err, fault.ErrDamaged) {
		err = fault.Errorf(fault.ErrUnavailable, d.Path(), "%v", err)
	}
	if err != nil {
		return nil, err
	}
	return parseMeta(d.Path(), data)
}

// parseMeta reads the marker of the directory at path.
func parseMeta(path string, data []byte) (*Meta, error) {
	m := new(Meta)
	var err error
	if m.unknown, err = record.Decode(data, m); err != nil {
		return nil, fault.Hint(fault.Errorf(fault.ErrUnavailable, path, "%s/%s is damaged: %v", path, MarkerFile, err),
			"restore it from a backup")
	}
	if m.Format > Format {
		return nil, fault.Hint(fault.Errorf(fault.ErrNewer, path, "%s/%s has format %d, this version knows %d", path, MarkerFile, m.Format, Format),
			"update reflinksr on this host")
	}
	if size := m.Options.SectorSize; !uuids.IsCanonical(m.UUID) || m.Format < 1 || size != 512 && size != 4096 {
		return nil, fault.Hint(fault.Errorf(fault.ErrUnavailable, path, "%s/%s is damaged: it is no SR's", path, MarkerFile),
			"restore it from a backup")
	}
	return m, nil
}

// Encode is what sr.json is to hold.
func (m *Meta) Encode() ([]byte, error) {
	data, err := record.Encode(m, m.unknown)
	return indent(data), err
}

func indent(data []byte) []byte {
	var b bytes.Buffer
	if json.Indent(&b, bytes.TrimSpace(data), "", "  ") != nil {
		return data
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// ReadDestroyed reads the tombstone in a directory: nil if the SR there lives, or
// there is none and never was.
func ReadDestroyed(root *dirfs.Dir) (*Meta, error) {
	if _, err := ReadMeta(root); !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	data, err := root.Read(TombstoneFile, record.Limit)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := new(Meta)
	if _, err := record.Decode(data, m); err != nil {
		return nil, fault.Errorf(fault.ErrUnavailable, root.Path(), "%s/%s, which tells of a destroyed SR, is damaged: %v", root.Path(), TombstoneFile, err)
	}
	return m, nil
}
