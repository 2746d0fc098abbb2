// Package vhdtree reads the directory of a file-based SR (EXT, NFS, file), in which each disk is a VHD called by its UUID, and
// snapshots and clones of one disk are a tree: what they have in common is in files that none of them may write to.
//
// Files are only opened to be read, by their names in that directory, and never by way of a link. What cannot be right is refused in a
// sentence that names the file, the byte and the reason, and with it the tree that it is of; others are not affected.
package vhdtree

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"reflinksr/internal/fault"
	"reflinksr/internal/image"
	"reflinksr/internal/uuids"
)

// File is a VHD of the directory.
type File struct {
	Key      string // its name, without .vhd
	Size     int64  // of the disk, in bytes
	Hidden   bool   // no disk of its own
	Parent   *File  // that it is the difference to: nil of none
	Children []*File
	Own      int64 // bytes of the disk that it holds itself
	Needs    int64 // bytes that these take where the smallest block has BlockSize

	id, parent string // identities
	names      []string
	mark       mark
	dir        *Source
}

// BlockSize is the block of a filesystem that Needs is counted for, in bytes.
const BlockSize = 4096

// Source is what a directory holds.
type Source struct {
	Path    string
	Roots   []*File // of whole trees, by their keys
	Refused []Refusal
	Foreign []string // names that are of no VHD with a UUID

	dir *os.File
	may func(*os.File) error
}

// Refusal is a tree, or what is left of one, that cannot be read.
type Refusal struct {
	Keys []string // of all its files
	Why  error
}

// Open looks at all VHDs of a directory. may refuses a file, and is asked for each before it is read.
func Open(ctx context.Context, dir string, may func(*os.File) error) (_ *Source, err error) {
	s := &Source{Path: dir, may: may}
	if s.dir, err = openDir(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	names, err := s.dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	files, bad := map[string]*File{}, map[string]error{}
	for _, name := range names {
		key, is := strings.CutSuffix(name, ".vhd")
		if !is || !uuids.IsCanonical(key) {
			s.Foreign = append(s.Foreign, name)
			continue
		}
		f := &File{Key: key, dir: s}
		files[key] = f
		if e := f.look(ctx); e != nil {
			bad[key] = e
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
	}
	for _, key := range sorted(files) {
		if bad[key] == nil {
			bad[key] = files[key].join(files)
		}
	}
	s.sort(files, bad)
	return s, nil
}

// Close gives the directory back.
func (s *Source) Close() error { return s.dir.Close() }

// look reads what a file tells of itself.
func (f *File) look(ctx context.Context) error {
	return f.opened(func(in *os.File, v *image.VHD) error { return f.learn(ctx, in, v) })
}

// opened opens the file alone, if it may be read.
func (f *File) opened(do func(in *os.File, v *image.VHD) error) error {
	in, err := f.open()
	if err != nil {
		return err
	}
	defer in.Close()
	if err := f.dir.may(in); err != nil {
		return err
	}
	v, err := image.OpenVHD(in, in.Name())
	if err != nil {
		return err
	}
	return do(in, v)
}

// learn notes what the file tells.
func (f *File) learn(ctx context.Context, in *os.File, v *image.VHD) (err error) {
	if f.mark, err = markOf(in, v); err != nil {
		return err
	}
	f.Size, f.Hidden, f.id, f.parent, f.names = v.Size, v.Hidden, v.ID, v.Parent, v.Names
	if err := v.Check(ctx); err != nil {
		return err
	}
	last := int64(-1) // block
	return v.Own(ctx, func(at, length int64) error {
		f.Own += length
		first, end := at/BlockSize, (at+length-1)/BlockSize
		f.Needs += (end - max(first, last+1) + 1) * BlockSize
		last = end
		return nil
	})
}

// open opens the file, if it is one and no link.
func (f *File) open() (*os.File, error) {
	in, err := openFile(f.dir.dir, f.dir.Path, f.Key+".vhd")
	if err != nil {
		return nil, err
	}
	st, err := in.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fault.Errorf(fault.ErrInvalid, in.Name(), "%s is no regular file", in.Name())
	}
	if err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}

// Path is that of the file.
func (f *File) Path() string { return path.Join(f.dir.Path, f.Key+".vhd") }

// join finds the parent.
func (f *File) join(files map[string]*File) error {
	if f.parent == "" {
		return nil
	}
	for _, name := range f.names {
		key, is := strings.CutSuffix(path.Base(name), ".vhd")
		p := files[key]
		if !is || p == nil {
			continue
		}
		if p.id != "" && p.id != f.parent {
			return f.bad("its parent %s has the identity %s, and it was made of %s", path.Base(p.Path()), p.id, f.parent)
		}
		f.Parent = p
		p.Children = append(p.Children, f)
		return nil
	}
	return f.bad("its parent is %q, and no such file is in the directory", fault.Shorten(path.Base(f.names[0])))
}

// bad refuses the file for what it says of its parent.
func (f *File) bad(format string, args ...any) error {
	in, err := f.open()
	if err != nil {
		return err
	}
	defer in.Close()
	v, err := image.OpenVHD(in, in.Name())
	if err != nil {
		return err
	}
	return v.Bad(format, args...)
}

// deepest is how many files one below the other are read, as of other images.
const deepest = 256

// sort puts whole trees among the roots, and refuses the others, each as one.
func (s *Source) sort(files map[string]*File, bad map[string]error) {
	seen := map[*File]bool{}
	for _, key := range sorted(files) {
		f := files[key]
		if seen[f] {
			continue
		}
		// What is joined to it, upwards and downwards.
		tree, keys := []*File{f}, []string(nil)
		seen[f] = true
		var roots []*File
		for i := 0; i < len(tree); i++ {
			g := tree[i]
			keys = append(keys, g.Key)
			if g.Parent == nil {
				roots = append(roots, g)
			}
			for _, next := range append(slices.Clone(g.Children), g.Parent) {
				if next != nil && !seen[next] {
					seen[next] = true
					tree = append(tree, next)
				}
			}
		}
		slices.Sort(keys)
		why := error(nil)
		for _, key := range keys {
			why = firstOf(why, bad[key])
		}
		if why == nil && len(roots) == 0 {
			why = tree[0].bad("its chain of parents comes back to it: it has no end")
		}
		if why == nil {
			why = tooDeep(roots[0], 1)
		}
		if why != nil {
			s.Refused = append(s.Refused, Refusal{keys, why})
			continue
		}
		s.Roots = append(s.Roots, roots[0])
	}
	slices.SortFunc(s.Roots, func(a, b *File) int { return strings.Compare(a.Key, b.Key) })
}

func tooDeep(f *File, depth int) error {
	if depth > deepest {
		return f.bad("it is the difference to %d files one below the other, of at most %d", depth-1, deepest-1)
	}
	for _, c := range f.Children {
		if err := tooDeep(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func sorted(files map[string]*File) []string {
	var all []string
	for key := range files {
		all = append(all, key)
	}
	slices.Sort(all)
	return all
}

// errChanged is for a file that is not what it was.
func errChanged(name, what string) error {
	return fault.Hint(fault.Errorf(fault.ErrSRInUse, name, "%s was changed while it was read: %s", name, what),
		"end what writes to it (shut its VMs down, unplug the SR's PBD), and say the same again")
}

// mark is what a file is known by.
type mark struct {
	dev, ino uint64
	size     int64 // bytes
	written  time.Time
	footer   string
}

// Stamp tells of the file, with all below it, whether it is what it was: another if any of them has changed.
func (f *File) Stamp() string { return stampOf(f) }

// Read opens the file alone, and, once do is done, says whether any of its tree was changed meanwhile.
func (f *File) Read(do func(v *image.VHD) error) error {
	return f.opened(func(_ *os.File, v *image.VHD) error {
		err := do(v)
		return firstOf(f.unchanged(), err)
	})
}

// ReadWhole opens the disk that it is, by way of all below it, and, once do is done, says whether any of these was changed meanwhile.
func (f *File) ReadWhole(do func(m *image.Image) error) error {
	var files []*os.File
	defer func() {
		for _, in := range files {
			in.Close()
		}
	}()
	for g := f; g != nil; g = g.Parent {
		in, err := g.open()
		if err != nil {
			return err
		}
		files = append(files, in)
	}
	m, err := image.OpenChain(files)
	if err != nil {
		return err
	}
	err = do(m)
	return firstOf(f.unchanged(), err)
}

// unchanged refuses a file that is not, with all below it, what it was.
func (f *File) unchanged() error {
	for g := f; g != nil; g = g.Parent {
		in, err := g.open()
		if err != nil {
			return fmt.Errorf("looking at it once more: %w", err)
		}
		err = g.same(in)
		in.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *File) same(in *os.File) error {
	v, err := image.OpenVHD(in, in.Name())
	if err != nil {
		return err
	}
	now, err := markOf(in, v)
	if err != nil {
		return err
	}
	switch was := f.mark; {
	case now.dev != was.dev || now.ino != was.ino:
		return errChanged(in.Name(), "it is another file")
	case now.size != was.size:
		return errChanged(in.Name(), fmt.Sprintf("it had %d bytes, and has %d", was.size, now.size))
	case !now.written.Equal(was.written):
		return errChanged(in.Name(), fmt.Sprintf("it was written to at %s", now.written.UTC().Format(time.RFC3339)))
	case now.footer != was.footer:
		return errChanged(in.Name(), "its footer is another")
	}
	return nil
}
