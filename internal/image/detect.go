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
	// A fixed VHD has a footer only.
	foot, err := footerOf(f, size-vhdFooter)
	if err != nil {
		return "", err
	}
	if foot != nil && binary.BigEndian.Uint32(foot[60:]) == vhdFixed && binary.BigEndian.Uint64(foot[48:]) == uint64(size-vhdFooter) { // #nosec G115 -- there is one
		return "vhd", nil
	}
	return "raw", nil
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
