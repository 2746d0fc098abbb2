package image

import (
	"bytes"
	"encoding/binary"
	"io"
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

// isDescription says whether a text is the description of a VMDK.
func isDescription(text []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(text[:min(len(text), 512)], " \t\r\n"), []byte("# Disk DescriptorFile"))
}
