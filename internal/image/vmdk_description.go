package image

import (
	"bytes"
	"strconv"
	"strings"

	"reflinksr/internal/fault"
)

// vmdkExtent is a line of a VMDK's description: a part of the disk, and where it is.
type vmdkExtent struct {
	sectors int64
	kind    string // FLAT, SPARSE, ZERO, …
	name    string
	offset  int64 // bytes
	line    int64 // where the line begins in the file
}

// mostExtents is how many files a disk may be made of.
const mostExtents = 1024

// describe reads the description of a VMDK, which begins at a byte of the file.
func describe(f *file, text []byte, at int64) (kind string, extents []vmdkExtent, err error) {
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	for line := range bytes.Lines(text) {
		here := at
		at += int64(len(line))
		words := strings.TrimSpace(string(line))
		if name, value, is := strings.Cut(words, "="); is && !strings.Contains(name, `"`) {
			value = strings.Trim(strings.TrimSpace(value), `"`)
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "createtype":
				kind = value
			case "parentcid":
				if !strings.EqualFold(value, "ffffffff") {
					return "", nil, f.bad(here, "it is the difference to another VMDK, which is not supported: qemu-img convert makes one disk of both")
				}
			case "encoding":
				if kind := strings.ToUpper(value); kind != "UTF-8" && kind != "WINDOWS-1252" {
					return "", nil, f.bad(here, "the description is written in %q: UTF-8 is known", fault.Shorten(value))
				}
			}
			continue
		}
		access, rest, _ := strings.Cut(words, " ")
		if access != "RW" && access != "RDONLY" && access != "NOACCESS" {
			continue
		}
		e, said := vmdkLine(rest)
		if said != "" {
			return "", nil, f.bad(here, "the description has a part of the disk %s", said)
		}
		e.line = here
		if extents = append(extents, e); len(extents) > mostExtents {
			return "", nil, f.bad(here, "the disk is made of more than %d parts", mostExtents)
		}
	}
	if len(extents) == 0 {
		return "", nil, f.bad(at, "the description has no part of a disk in it")
	}
	return kind, extents, nil
}

// vmdkLine reads what follows the access: 4192256 SPARSE "disk-s001.vmdk", 2048 FLAT "disk-flat.vmdk" 0, 63 ZERO.
func vmdkLine(text string) (e vmdkExtent, wrong string) {
	before, quoted, named := strings.Cut(text, `"`)
	words := strings.Fields(before)
	if len(words) != 2 {
		return e, "that has not a size and a kind"
	}
	var err error
	if e.sectors, err = strconv.ParseInt(words[0], 10, 64); err != nil || e.sectors <= 0 || e.sectors > maxSize/sectorSize {
		return e, "of a size that none has"
	}
	e.kind = words[1]
	if !named {
		return e, ""
	}
	name, after, closed := strings.Cut(quoted, `"`)
	if !closed || name == "" {
		return e, "whose name has no end"
	}
	e.name = name
	if words = strings.Fields(after); len(words) > 0 {
		sector, err := strconv.ParseInt(words[0], 10, 64)
		if err != nil || sector < 0 || sector > maxSize/sectorSize {
			return e, "that begins where none can"
		}
		e.offset = sector * sectorSize
	}
	return e, ""
}
