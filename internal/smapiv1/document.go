package smapiv1

import (
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"

	"reflinksr/internal/fault"
)

// element is an element of the XML that the older form answers: of others, or of a text.
type element struct {
	name     string
	text     string
	children []element
}

func value(name, text string) element { return element{name: name, text: text} }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// truth is as Python writes it.
func truth(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// document writes an element as a document, laid out as Python's toprettyxml did.
func (e element) document(b *strings.Builder) {
	b.WriteString("<?xml version=\"1.0\" ?>\n")
	e.write(b, "")
}

func (e element) write(b *strings.Builder, indent string) {
	if len(e.children) == 0 && e.text == "" {
		fmt.Fprintf(b, "%s<%s/>\n", indent, e.name)
		return
	}
	fmt.Fprintf(b, "%s<%s>\n", indent, e.name)
	if e.text != "" {
		b.WriteString(indent + "\t")
		xml.EscapeText(b, []byte(strings.ToValidUTF8(e.text, "\uFFFD")))
		b.WriteString("\n")
	}
	for _, c := range e.children {
		c.write(b, indent+"\t")
	}
	fmt.Fprintf(b, "%s</%s>\n", indent, e.name)
}

// Contents is what sr_scan tells of an SR in the older form.
type Contents struct {
	UUID, Label, Description string
	Utilisation              int64 // bytes that disks have allocated
	Allocation               int64 // bytes of all disks
	Size                     int64 // bytes of the filesystem
	Used                     int64 // bytes of it that are not free, whoever has them
	Disks                    []ContentsDisk
}

// ContentsDisk is what it tells of a disk.
type ContentsDisk struct {
	UUID, Label, Description    string
	Size, Utilisation           int64 // bytes
	Locked, Shareable, ReadOnly bool
}

// Document is that as XML. No disk has a parent on which it depends.
func (c Contents) Document() string {
	sr := element{name: "sr", children: []element{
		value("uuid", c.UUID), value("physical_utilisation", itoa(c.Utilisation)), value("virtual_allocation", itoa(c.Allocation)), value("physical_size", itoa(c.Size)),
		value("default_vdi_visibility", truth(true)), value("label", c.Label), value("description", c.Description),
	}}
	for _, d := range c.Disks {
		sr.children = append(sr.children, element{name: "vdi", children: []element{
			value("uuid", d.UUID), value("size", itoa(d.Size)), value("utilisation", itoa(d.Utilisation)), value("locked", truth(d.Locked)), value("label", d.Label),
			value("description", d.Description), value("shareable", truth(d.Shareable)), value("read_only", truth(d.ReadOnly)),
		}})
	}
	var b strings.Builder
	sr.document(&b)
	return b.String()
}

// PathDocument is what vdi_attach tells in the older form, and TypeDocument what sr_content_type does: texts in quotation marks.
func PathDocument(path string) string { return quoted("path", path) }

// TypeDocument tells which driver of block devices is to handle a disk.
func TypeDocument(kind string) string { return quoted("type", kind) }

func quoted(name, text string) string {
	var b strings.Builder
	element{name: "sr", children: []element{value(name, `"`+text+`"`)}}.document(&b)
	return b.String()
}

// ParseDconf reads a device configuration of the older form: an element of any name, with one for each key, of a text. Keys that are there
// twice, other levels, and document types, which could define entities, are refused.
func ParseDconf(text string) (map[string]string, error) {
	bad := func(format string, args ...any) error {
		return fault.Errorf(ErrBadRequest, "dconf", "the device configuration cannot be read: "+format, args...)
	}
	if len(text) > Limit {
		return nil, bad("it has more than %d bytes", Limit)
	}
	d := xml.NewDecoder(strings.NewReader(text))
	conf := map[string]string{}
	level, key, ended := 0, "", false
	var b strings.Builder
	for {
		t, err := d.Token()
		if err == io.EOF {
			if !ended {
				return nil, bad("there is none in %q", fault.Shorten(text))
			}
			return conf, nil
		}
		if err != nil {
			return nil, bad("%w", err)
		}
		switch t := t.(type) {
		case xml.Directive:
			return nil, bad("it has a document type, or another directive")
		case xml.StartElement:
			if level++; level > 2 || ended {
				return nil, bad("there is an element %q where none belongs", fault.Shorten(t.Name.Local))
			}
			if level == 2 {
				key = t.Name.Local
				if _, twice := conf[key]; twice {
					return nil, bad("%q is there twice", fault.Shorten(key))
				}
				b.Reset()
			}
		case xml.CharData:
			if level == 2 {
				b.Write(t)
			} else if strings.TrimSpace(string(t)) != "" {
				return nil, bad("there is a text %q outside of a key", fault.Shorten(string(t)))
			}
		case xml.EndElement:
			if level == 2 {
				conf[key] = strings.Trim(strings.TrimSpace(b.String()), `"`)
			}
			level--
			ended = level == 0
		}
	}
}
