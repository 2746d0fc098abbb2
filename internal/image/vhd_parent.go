package image

import (
	"encoding/binary"
	"net/url"
	"strings"
	"unicode/utf16"
)

// vhdParent is what a differencing VHD says of its parent.
type vhdParent struct {
	id    []byte   // the identity in its footer
	names []string // what it may be called, the likeliest first
	said  int64    // where the file names it
}

// read reads where the parent may be: a path relative to the file, then absolute ones, then its bare name.
func (p *vhdParent) read(f *file, h []byte, at int64) error {
	p.id, p.said = h[40:56], at+576
	var relative, mac, absolute []string
	for i := range 8 {
		locator := h[576+24*i:][:24]
		length, where := int64(binary.BigEndian.Uint32(locator[8:])), int64(binary.BigEndian.Uint64(locator[16:])) // #nosec G115 -- what is negative is refused
		kind := string(locator[:4])
		if kind != "W2ru" && kind != "W2ku" && kind != "MacX" || length == 0 {
			continue
		}
		said := at + 576 + 24*int64(i)
		if length > 4096 {
			return f.bad(said+8, "the name of the parent has %d bytes, of at most 4096", length)
		}
		text, err := f.bytes(where, int(length), said+16, "the name of the parent")
		if err != nil {
			return err
		}
		switch kind {
		case "W2ru":
			relative = append(relative, windowsPath(wide(text, binary.LittleEndian)))
		case "W2ku":
			absolute = append(absolute, windowsPath(wide(text, binary.LittleEndian)))
		default:
			if path, is := fileURL(string(text)); is {
				mac = append(mac, path)
			}
		}
	}
	p.names = append(append(relative, mac...), absolute...)
	if bare := windowsPath(wide(h[64:576], binary.BigEndian)); bare != "" {
		p.names = append(p.names, bare[strings.LastIndexByte(bare, '/')+1:])
	}
	if len(p.names) == 0 {
		return f.bad(p.said, "it is the difference to a parent, and does not say which")
	}
	return nil
}

// wide is a text of 16 bits a letter, up to its end.
func wide(p []byte, order binary.ByteOrder) string {
	var letters []uint16
	for ; len(p) >= 2; p = p[2:] {
		letter := order.Uint16(p)
		if letter == 0 {
			break
		}
		letters = append(letters, letter)
	}
	return string(utf16.Decode(letters))
}

func windowsPath(text string) string { return strings.ReplaceAll(text, `\`, "/") }

// fileURL is the path of a URL of a file, which vhd-util writes relative as well: file://./parent.vhd.
func fileURL(text string) (string, bool) {
	path, is := strings.CutPrefix(strings.TrimRight(text, "\x00"), "file://")
	if !is {
		return "", false
	}
	path = strings.TrimPrefix(path, "localhost")
	if plain, err := url.PathUnescape(path); err == nil {
		path = plain
	}
	return path, path != ""
}
