package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
)

// Options is how an image is to be read.
type Options struct {
	Format   string                 // raw, qcow2, vhd or vmdk: "" as the contents tell
	Snapshot string                 // of a qcow2 image, by name or number: "" what it holds now
	Anywhere bool                   // files that it names are read wherever they are
	MayRead  func(f *os.File) error // refuses a file; nil: none
}

// Formats are those that can be read.
var Formats = []string{"raw", "qcow2", "vhd", "vmdk"}

// maxSize bounds disks, in bytes: 1 EiB.
const maxSize = 1 << 60

// longest is how many files a chain may have.
const longest = 256

// Open opens an image and the files that it names. Whoever made the image chose their names: so each must be in the directory
// of the file that names it or below it, unless the options say otherwise. Only regular files are opened, and of the image itself a
// block device. The end of ctx ends it before the next file.
//
// What a raw disk holds a guest wrote, who may have made it look like an image that names files of this host. So
// what names others must be called by its format in its name or in the options.
func Open(ctx context.Context, path string, o Options) (*Image, error) {
	f, err := openGiven(path, o.MayRead)
	if err != nil {
		return nil, err
	}
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		f.close()
		return nil, err
	}
	defer dir.Close()
	return read(ctx, f, o, (&reach{dir, o.Anywhere, o.MayRead}).open)
}

// OpenAt reads an image of so many bytes that is open already, and may name no others. It is not closed with the image.
func OpenAt(r io.ReaderAt, size int64, name string, o Options) (*Image, error) {
	return read(context.Background(), &file{ReaderAt: r, name: name, size: size, close: func() error { return nil }}, o, nil)
}

// chain is an image that is being opened.
type chain struct {
	ctx   context.Context // whose end ends that
	image *Image
	open  func(from *file, name string) (*file, error) // nil: no other file may be named
}

// read puts an image together of a file and of those that it names.
func read(ctx context.Context, f *file, o Options, open func(from *file, name string) (*file, error)) (_ *Image, err error) {
	m := &Image{files: []*file{f}}
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	if m.format = o.Format; m.format == "" {
		if m.format, err = Detect(f, f.size); err != nil {
			return nil, err
		}
		if m.format == "raw" {
			begin := make([]byte, min(f.size, 512))
			if err = f.data(begin, 0); err == nil {
				err = notRaw(f.name, begin)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	if o.Snapshot != "" && m.format != "qcow2" {
		return nil, fault.Errorf(fault.ErrInvalid, f.name, "%s is %s, which has no snapshots: %q is none of it", f.name, m.format, fault.Shorten(o.Snapshot))
	}
	c := &chain{ctx, m, open}
	if o.Format == "" && !called(f.name, m.format) && open != nil {
		c.open = func(*file, string) (*file, error) { return nil, errGuessed }
	}
	if err := c.add(f, m.format, o.Snapshot); err != nil {
		return nil, err
	}
	m.size = m.layers[0].size()
	if m.size == 0 {
		return nil, f.bad(0, "the disk is empty")
	}
	return m, nil
}

// errGuessed says that only what the file holds tells what it is.
var errGuessed = errors.New("it names other files, and what a guest wrote to a raw disk could do so to have them read")

// called says whether a file is called by its format.
func called(name, format string) bool {
	extension := strings.ToLower(strings.TrimPrefix(filepath.Ext(name), "."))
	return extension == format || extension == "qcow" && format == "qcow2" || extension == "vpc" && format == "vhd" || extension == "avhd" && format == "vhd"
}

// add puts a file below those that there are, and what it names below that.
func (c *chain) add(f *file, format, snapshot string) error {
	switch format {
	case "raw":
		if f.size > maxSize {
			return f.bad(maxSize, "the disk is larger than %d bytes", int64(maxSize))
		}
		c.put(&raw{f, 0, f.size})
		return nil
	case "qcow2":
		q, err := openQcow2(f, snapshot)
		if err != nil {
			return err
		}
		c.put(q)
		return c.backing(f, q.nested)
	case "vhd":
		l, v, err := openVHD(f)
		if err != nil {
			return err
		}
		c.put(l)
		return c.parent(f, v)
	case "vmdk":
		return c.vmdk(f)
	}
	return fault.Errorf(fault.ErrInvalid, f.name, "%q is no format that can be read: %s are", fault.Shorten(format), strings.Join(Formats, ", "))
}

func (c *chain) put(l layer) { c.image.layers = append(c.image.layers, l) }

// backing opens the file below a qcow2 image.
func (c *chain) backing(f *file, b backing) error {
	if b.name == "" {
		return nil
	}
	format := map[string]string{"raw": "raw", "file": "raw", "host_device": "raw", "qcow2": "qcow2", "vpc": "vhd", "vmdk": "vmdk"}[b.format]
	switch {
	case b.format == "":
		return fault.Hint(f.bad(b.said, "it has the backing file %q, and does not say of which format that is", fault.Shorten(b.name)), "if you know it, qemu-img rebase -u -F FORMAT -b BACKING IMAGE writes it down")
	case format == "":
		return f.bad(b.said, "its backing file is of the format %q, which cannot be read", fault.Shorten(b.format))
	case strings.HasPrefix(b.name, "json:") || strings.Contains(before(b.name, "/"), ":"):
		return f.bad(b.said, "its backing file is %q, which is no path of a file", fault.Shorten(b.name))
	}
	below, err := c.follow(f, b.said, "its backing file", b.name)
	if err != nil {
		return err
	}
	return c.add(below, format, "")
}

func before(text, separator string) string {
	first, _, _ := strings.Cut(text, separator)
	return first
}

// parent opens the VHD below a differencing one.
func (c *chain) parent(f *file, v *vhd) error {
	if len(v.nested.names) == 0 {
		return nil
	}
	var first error
	for _, name := range v.nested.names {
		below, err := c.follow(f, v.nested.said, "its parent", name)
		if err == nil {
			if err := v.nested.isParent(below); err != nil {
				return err
			}
			return c.add(below, "vhd", "")
		}
		if first == nil || errors.Is(err, errOutside) && !errors.Is(first, errOutside) {
			first = err // the way to it tells more than that it is not there
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, errOutside) {
			break
		}
	}
	return first
}

// vmdk opens the parts of a VMDK.
func (c *chain) vmdk(f *file) error {
	begin, err := f.bytes(0, int(min(4, f.size)), 0, "the header")
	if err != nil {
		return err
	}
	if string(begin) == magicVMDK {
		v, err := openSparseVMDK(f)
		if err != nil {
			return err
		}
		text, err := f.bytes(v.described, int(v.descLength), 28, "the description")
		if err != nil {
			return err
		}
		if len(text) > 0 { // else it is a part of another, which is whole
			if _, extents, err := describe(f, text, v.described); err != nil {
				return err
			} else if len(extents) > 1 {
				return f.bad(extents[1].line, "the description inside of a sparse file has a second part of the disk")
			}
		}
		c.put(v)
		return nil
	}
	text, err := f.bytes(0, int(min(f.size, mostDescription)), 0, "the description")
	if err != nil {
		return err
	}
	if !isDescription(text) {
		return f.bad(0, "it begins neither as a sparse VMDK does nor as a description")
	}
	kind, extents, err := describe(f, text, 0)
	if err != nil {
		return err
	}
	disk := &parts{}
	for _, e := range extents {
		l, err := c.extent(f, e, kind)
		if err != nil {
			return err
		}
		if disk.add(l, e.sectors*sectorSize); disk.size() > maxSize {
			return f.bad(e.line, "the disk is larger than %d bytes", int64(maxSize))
		}
	}
	c.put(disk)
	return nil
}

// extent opens a part of a VMDK.
func (c *chain) extent(f *file, e vmdkExtent, kind string) (layer, error) {
	if e.kind == "ZERO" {
		return nil, nil
	}
	if e.kind != "FLAT" && e.kind != "VMFS" && e.kind != "SPARSE" || e.name == "" {
		return nil, f.bad(e.line, "a part of the disk is of the kind %q (of a VMDK of the kind %q), which is not supported: qemu-img convert may read it", fault.Shorten(e.kind), fault.Shorten(kind))
	}
	in, err := c.follow(f, e.line, "a part of the disk", e.name)
	if err != nil {
		return nil, err
	}
	if e.kind == "SPARSE" {
		v, err := openSparseVMDK(in)
		if err == nil && v.disk < e.sectors*sectorSize {
			err = in.bad(12, "it has %d bytes, and %s has it as a part of %d", v.disk, f.name, e.sectors*sectorSize)
		}
		return v, err
	}
	if !in.has(e.offset, e.sectors*sectorSize) {
		return nil, in.bad(in.size, "it ends, and %s has it as a part of %d bytes from byte %d on", f.name, e.sectors*sectorSize, e.offset)
	}
	return &raw{in, e.offset, e.sectors * sectorSize}, nil
}

// follow opens a file that another names.
func (c *chain) follow(f *file, said int64, what, name string) (*file, error) {
	if c.open == nil {
		return nil, fault.Hint(f.bad(said, "%s is %q, and what comes from a pipe can name no files", what, fault.Shorten(name)), "give the image as a file, beside those that it names")
	}
	if len(c.image.files) > longest+mostExtents || len(c.image.layers) >= longest {
		return nil, f.bad(said, "%s is %q, and more than %d files one below the other are read for none", what, fault.Shorten(name), longest)
	}
	if strings.ContainsRune(name, 0) {
		return nil, f.bad(said, "%s is %q, which is no path of a file", what, fault.Shorten(name))
	}
	if err := context.Cause(c.ctx); err != nil {
		return nil, err
	}
	in, err := c.open(f, name)
	switch {
	case errors.Is(err, errGuessed):
		return nil, fault.Hint(f.bad(said, "%s is %q; but that it is %s only its contents say: %v", what, fault.Shorten(name), c.image.format, err), "if it is, say --format %s", c.image.format)
	case errors.Is(err, errOutside):
		return nil, fault.Hint(f.bad(said, "%s is %q: %w", what, fault.Shorten(name), err), "if you trust the image, say --follow")
	case err != nil:
		return nil, fmt.Errorf("%s names at byte %d %s, which cannot be opened: %w", f.name, said, what, err)
	}
	c.image.files = append(c.image.files, in)
	for _, other := range c.image.files[:len(c.image.files)-1] {
		if (len(c.image.layers) > 0 || other == c.image.files[0]) && other.id == in.id {
			return nil, f.bad(said, "%s is %q, which is above it in the chain: it has no end", what, fault.Shorten(name))
		}
	}
	return in, nil
}
