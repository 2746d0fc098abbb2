package datastore

import (
	"context"
	"crypto/md5"  // #nosec G501 -- what OpenNebula knows images by
	"crypto/sha1" // #nosec G505 -- the same
	"encoding/hex"
	"hash"
	"io"
	"os"
	"slices"
	"strings"

	"reflinksr/internal/fault"
	"reflinksr/internal/image"
	"reflinksr/internal/program"
)

// Filesystems are those that a new disk can be formatted with.
var Filesystems = []string{"ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "swap"}

// Make makes an empty disk of so many bytes, raw or qcow2, a raw one formatted with a filesystem if that is not "".
func Make(path, format, fs string, size int64) error {
	switch {
	case size <= 0 || size > 1<<59:
		return fault.Errorf(fault.ErrSize, "size", "a disk of %d bytes cannot be made", size)
	case format != "raw" && format != "qcow2":
		return fault.Errorf(fault.ErrInvalid, format, "a disk of format %q cannot be made: raw and qcow2 can", fault.Shorten(format))
	case fs != "" && !slices.Contains(Filesystems, fs):
		return fault.Errorf(fault.ErrInvalid, fs, "a disk cannot be formatted with %q: with %s it can", fault.Shorten(fs), strings.Join(Filesystems, ", "))
	case fs != "" && format != "raw":
		return fault.Hint(fault.Errorf(fault.ErrInvalid, fs, "a qcow2 disk cannot be formatted here"), "make it raw, or format it in the guest")
	}
	if IsDisk(path) {
		if err := makeGuest(dirOf(path)); err != nil {
			return err
		}
	}
	to, err := open(path)
	if err != nil {
		return err
	}
	defer to.close()
	s, err := stage(to.dir)
	if err != nil {
		return err
	}
	defer s.discard()
	if err := empty(s.File, format, size); err != nil {
		return err
	}
	if err := formatAs(s.Name(), fs); err != nil {
		return err
	}
	return s.publish(to.name, instead)
}

func empty(f *os.File, format string, size int64) error {
	w, err := image.NewWriter(f, format, size)
	if err != nil {
		return err
	}
	if err := w.Zeros(size); err != nil {
		return err
	}
	return w.End()
}

func formatAs(path, fs string) error {
	var pack, name string
	var args []string
	switch fs {
	case "":
		return nil
	case "swap":
		pack, name = "util-linux", "mkswap"
	case "ext2", "ext3", "ext4":
		pack, name, args = "e2fsprogs", "mkfs."+fs, []string{"-q", "-F"}
	case "xfs":
		pack, name, args = "xfsprogs", "mkfs.xfs", []string{"-q", "-f"}
	case "btrfs":
		pack, name, args = "btrfs-progs", "mkfs.btrfs", []string{"-q", "-f"}
	case "vfat":
		pack, name = "dosfstools", "mkfs.vfat"
	}
	status, output, err := program.Run(pack, name, append(args, path)...)
	if err == nil && status != 0 {
		err = fault.Errorf(nil, fs, "%s: %s", name, program.OneLine(output))
	}
	return err
}

// Import is what becomes an image.
type Import struct {
	From    string // a file, which whoever calls has found to be allowed
	To      string
	Convert string // the format that it must have in the end, "" for that which it has
	Raw     bool   // it is data and no disk: nothing in it is looked at
	MD5     string
	SHA1    string
	MayCopy bool
}

// Take makes an image of a file and answers its format.
func Take(ctx context.Context, i Import) (format string, err error) {
	src, err := openForeign(i.From)
	if err != nil {
		return "", err
	}
	defer src.Close()
	to, err := openImage(i.To)
	if err != nil {
		return "", err
	}
	defer to.close()
	s, err := stage(to.dir)
	if err != nil {
		return "", err
	}
	defer s.discard()
	// A file of anybody's is read as it is: it is no guest's disk, so the page cache is no matter.
	if err := s.fill(ctx, src, to.dir, false); err != nil {
		if !fallsBack(err) {
			return "", err
		}
		if err := copyData(ctx, s.File, src); err != nil {
			return "", err
		}
	}
	if err := summed(ctx, s.File, i); err != nil {
		return "", err
	}
	return settle(ctx, s, to, i)
}

// Receive makes an image of what comes, and answers its format.
func Receive(ctx context.Context, i Import, from io.Reader) (format string, err error) {
	to, err := openImage(i.To)
	if err != nil {
		return "", err
	}
	defer to.close()
	s, err := stage(to.dir)
	if err != nil {
		return "", err
	}
	defer s.discard()
	if err := s.receive(ctx, from); err != nil {
		return "", err
	}
	return settle(ctx, s, to, i)
}

// settle gives what is staged its name, in the format that it is to have.
func settle(ctx context.Context, s *staged, to place, i Import) (string, error) {
	if i.Raw {
		return "raw", s.publish(to.name, fresh)
	}
	now, err := inspect(s.File)
	if err != nil {
		return "", err
	}
	if i.Convert == "" || i.Convert == now {
		return now, s.publish(to.name, fresh)
	}
	other, err := stage(to.dir)
	if err != nil {
		return "", err
	}
	defer other.discard()
	if err := convert(ctx, other.File, s.File, i.Convert); err != nil {
		return "", err
	}
	s.discard() // before the commit: afterwards nobody would look for it
	return i.Convert, other.publish(to.name, fresh)
}

// inspect tells the format of a disk and refuses one that names other files, which are not its owner's to read.
func inspect(f *os.File) (string, error) {
	m, err := foreign(f)
	if err != nil {
		return "", err
	}
	defer m.Close()
	switch m.Format() {
	case "raw", "qcow2":
		return m.Format(), nil
	}
	return "", fault.Hint(fault.Errorf(fault.ErrInvalid, f.Name(), "the image is a %s, which no guest of OpenNebula can have", m.Format()), "convert it to raw or qcow2")
}

// foreign reads an image that may name no other.
func foreign(f *os.File) (*image.Image, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	begin := make([]byte, 512)
	n, err := f.ReadAt(begin, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	for magic, name := range map[string]string{"\x1f\x8b": "gzip", "BZh": "bzip2", "\xfd7zXZ": "xz"} {
		if strings.HasPrefix(string(begin[:n]), magic) {
			return nil, fault.Hint(fault.Errorf(fault.ErrInvalid, f.Name(), "the image is compressed by %s", name), "decompress it first")
		}
	}
	return image.OpenAt(f, st.Size(), "the image", image.Options{})
}

func convert(ctx context.Context, to, from *os.File, format string) error {
	m, err := foreign(from)
	if err != nil {
		return err
	}
	defer m.Close()
	w, err := image.NewWriter(to, format, m.Size())
	if err != nil {
		return err
	}
	return m.CopyTo(ctx, w, func(int64, int64) {})
}

// summed compares a file with the sums that were given for it.
func summed(ctx context.Context, f *os.File, i Import) error {
	md, sha := md5.New(), sha1.New() // #nosec G401 -- as above
	for _, sum := range []struct {
		name, want string
		h          hash.Hash
	}{{"MD5", i.MD5, md}, {"SHA1", i.SHA1, sha}} {
		if sum.want == "" {
			continue
		}
		got, err := sumOf(ctx, f, sum.h)
		if err != nil {
			return err
		}
		if !strings.EqualFold(got, sum.want) {
			return fault.Errorf(fault.ErrInvalid, sum.name, "the %s of %s is %s, and not %q", sum.name, i.From, got, fault.Shorten(sum.want))
		}
	}
	return nil
}

func sumOf(ctx context.Context, f *os.File, h hash.Hash) (string, error) {
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	for at := int64(0); at < st.Size(); at += 16 << 20 {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if _, err := io.Copy(h, io.NewSectionReader(f, at, 16<<20)); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// MD5 is the sum of an image that no guest has.
func MD5(ctx context.Context, path string) (string, error) {
	p, err := openImage(path)
	if err != nil {
		return "", err
	}
	defer p.close()
	f, err := p.dir.Open(p.name, os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return sumOf(ctx, f, md5.New()) // #nosec G401 -- as above
}
