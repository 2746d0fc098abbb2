package image

import (
	"bytes"
	"encoding/binary"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"reflinksr/internal/fault"
)

// Detect tells the format of an image of so many bytes by what it holds: raw is whatever is nothing else.
func Detect(r io.ReaderAt, size int64) (string, error) {
	f := &file{ReaderAt: r, name: "the image", size: size}
	begin := make([]byte, min(size, 512))
	if err := f.data(begin, 0); err != nil {
		return "", err
	}
	if format := Begins(begin); format != "" {
		return format, nil
	}
	end := make([]byte, min(size, vhdFooter))
	if err := f.data(end, size-int64(len(end))); err != nil {
		return "", err
	}
	if isFixed(end, size) {
		return "vhd", nil
	}
	return "raw", nil
}

// isFixed says whether a file of so many bytes, of which these are the last, is a fixed VHD, which has no other sign.
func isFixed(end []byte, size int64) bool {
	return len(end) == vhdFooter && string(end[:8]) == "conectix" && summed(end, 64) &&
		binary.BigEndian.Uint32(end[60:]) == vhdFixed && binary.BigEndian.Uint64(end[48:]) == uint64(size-vhdFooter) // #nosec G115 -- not negative
}

// Begins tells the format of an image by its first 512 bytes: "" if that is raw, or a fixed VHD.
func Begins(begin []byte) string {
	switch {
	case bytes.HasPrefix(begin, []byte(magicQcow2)):
		return "qcow2"
	case bytes.HasPrefix(begin, []byte(magicVMDK)), isDescription(begin):
		return "vmdk"
	case bytes.HasPrefix(begin, []byte("conectix")):
		return "vhd"
	}
	return ""
}

// foreign are formats that nobody reads here, by what a file of theirs has at some place. A raw disk with that is none that a guest could boot.
var foreign = []struct {
	name string
	at   int
	sign string
}{{"VHDX", 0, "vhdxfile"}, {"VDI", 64, "\x7f\x10\xda\xbe"}, {"QED", 0, "QED\x00"}, {"Parallels", 0, "WithoutFreeSpace"}, {"Parallels", 0, "WithouFreSpacExt"}}

// notRaw refuses what is raw for want of another sign, by its first bytes and by its name, though it is meant to be something else.
func notRaw(name string, begin []byte) error {
	for _, f := range foreign {
		if len(begin) >= f.at && bytes.HasPrefix(begin[f.at:], []byte(f.sign)) {
			return fault.Hint(fault.Errorf(fault.ErrInvalid, name, "%s is a %s image, which is not read here", name, f.name),
				"convert it: qemu-img convert -O qcow2 FILE NEW.qcow2; or, if it is a raw disk all the same, say --format raw")
		}
	}
	extension := strings.ToLower(strings.TrimPrefix(filepath.Ext(name), "."))
	if slices.Contains([]string{"qcow2", "qcow", "vhd", "vpc", "vmdk", "vhdx", "vdi", "qed"}, extension) {
		return fault.Hint(fault.Errorf(fault.ErrInvalid, name, "%s is called %s, and does not begin as such an image does: it is damaged, or something else", name, extension),
			"look what it is: file FILE; or, if it is a raw disk all the same, say --format raw")
	}
	return nil
}

// isDescription says whether a text is the description of a VMDK.
func isDescription(text []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(text[:min(len(text), 512)], " \t\r\n"), []byte("# Disk DescriptorFile"))
}
