package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/overwrite"
	"reflinksr/internal/repository"
	"reflinksr/internal/sys"
)

// target is a file or a block device that a stream is applied to.
//
// A file has another name meanwhile, which says what is being done to it: what is
// interrupted is not taken for a whole disk, nor continued with another stream. The
// records only say what the target shall hold, so doing all of it again is harmless.
type target struct {
	f       *os.File
	path    string
	partial string // "" for a device
	header  delta.Header
}

// mayMake refuses a path at which no new file can be made. "-" is none.
func mayMake(path string) error {
	if path == "-" {
		return nil
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s exists already", path)
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return overwrite.MayWriteFile(path)
}

// errHolds says that a target holds already what a stream would make of it.
var errHolds = errors.New("it holds that already")

// openTarget refuses what does not hold what the stream begins with, as far as that can
// be told, and changes nothing then.
//
// What is on a device, or in a file that nothing tells what it holds, is destroyed only if
// destroy says so.
func openTarget(path string, h delta.Header, destroy bool) (*target, error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	} else if _, e := os.Lstat(path); e == nil {
		return nil, fmt.Errorf("%s is a link that leads nowhere (%w): give the name of a file", path, err)
	}
	st, err := os.Stat(path)
	there := err == nil
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if there && st.Mode()&os.ModeDevice != 0 {
		f, err := overwrite.OpenToOverwrite(path, max(h.FromSize, h.ToSize), destroy, "--overwrite")
		if err != nil {
			return nil, err
		}
		t := &target{f: f, path: path, header: h} // it keeps its size
		if err := t.mayBegin(destroy); err != nil {
			t.close()
			return nil, err
		}
		return t, nil
	}
	if there && !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is neither a file nor a block device", path)
	}
	if err := overwrite.MayWriteFile(path); err != nil {
		return nil, err
	}
	t := &target{path: path, partial: fmt.Sprintf("%s.%s-%s.partial", path, short(h.From), short(h.To)), header: h}
	_, err = os.Lstat(t.partial)
	switch continued := err == nil; {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return nil, err
	case continued && there:
		return nil, fmt.Errorf("%s is there, and so is %s, which an interrupted apply left: remove the one that is not to be used", path, t.partial)
	case continued:
		err = t.reopen()
	case there:
		err = t.takeOver(destroy)
	case h.Full():
		t.f, err = os.OpenFile(t.partial, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			err = lockName(t.f, t.partial)
		}
	default:
		err = t.missing()
	}
	if err == nil {
		err = t.grow()
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// mayBegin refuses a device that cannot be written to, and one to which the stream is no
// use unless it holds a volume already: it cannot say which, so somebody has to.
func (t *target) mayBegin(destroy bool) error {
	protected, err := unix.IoctlGetInt(int(t.f.Fd()), unix.BLKROGET)
	switch {
	case err != nil:
		return fmt.Errorf("%s: asking whether it is write-protected: %w", t.path, err)
	case protected != 0:
		return fmt.Errorf("%s is write-protected, and nothing was written: give another device, or end that: blockdev --setrw, losetup without -r", t.path)
	case !t.header.Full() && !destroy:
		return fmt.Errorf("%s is a device, which cannot say what it holds, and this stream is only what has changed since volume %s: apply the streams in order, from the full one on; or, if it holds volume %s, say --overwrite", t.path, t.header.From, t.header.From)
	}
	return nil
}

func short(k repository.Key) string {
	if k == "" {
		return "new"
	}
	return string(k[:8])
}

// missing says what to do about a target that is not there.
func (t *target) missing() error {
	err := fmt.Errorf("%s does not exist: apply the full stream first, and then every other in order up to the one of %s", t.path, t.header.From)
	entries, _ := os.ReadDir(filepath.Dir(t.path))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(t.path)+".") && strings.HasSuffix(e.Name(), ".partial") {
			left := filepath.Join(filepath.Dir(t.path), e.Name())
			return fmt.Errorf("%s does not exist, but %s, which an interrupted apply left: apply that stream again, its volumes' keys begin as the name says", t.path, left)
		}
	}
	return err
}

// claim opens a file of that name that nobody else uses.
func (t *target) claim(name string) (err error) {
	if err := overwrite.FileIsFree(name); err != nil {
		return err
	}
	if t.f, err = os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW, 0); err != nil {
		return err
	}
	return lockName(t.f, name)
}

// reopen opens what an interrupted apply of the same stream left.
func (t *target) reopen() (err error) {
	if err := t.claim(t.partial); err != nil {
		return err
	}
	size, err := sizeOf(t.f)
	if err == nil && !t.header.Full() && size != t.header.FromSize && size != t.header.ToSize {
		err = fmt.Errorf("%s has %d bytes, which no apply of this stream leaves: remove it", t.partial, size)
	}
	return err
}

// takeOver opens a target that holds what the stream begins with, or ends with.
func (t *target) takeOver(destroy bool) (err error) {
	if err := t.claim(t.path); err != nil {
		return err
	}
	size, err := sizeOf(t.f)
	if err != nil {
		return err
	}
	h := t.header
	holds, written, err := t.holds()
	if err != nil {
		return err
	}
	switch {
	case h.Full() && size > 0 && !written && holds == string(h.To):
		return fmt.Errorf("%s exists already, and holds volume %s, which is what this stream makes: nothing is left to do", t.path, holds)
	case h.Full() && size > 0:
		return fmt.Errorf("%s exists already, and this stream is a whole disk: give a new name", t.path)
	case h.Full():
	case !written && holds == string(h.To) && size == h.ToSize:
		return errHolds
	case written:
		return fmt.Errorf("%s was written to since it held volume %s, so it does not hold that any more: apply the streams to a new file, from the full one on; or, if all that has changed is its time: setfattr -x %s %s", t.path, holds, holdsAttribute, t.path)
	case holds != "" && holds != string(h.From) && holds != string(h.To):
		return fmt.Errorf("%s holds volume %q, and this stream is what has changed since %s: apply the streams in order", t.path, holds, h.From)
	case size != h.FromSize && (holds != string(h.To) || size != h.ToSize):
		return fmt.Errorf("%s has %d bytes, volume %s has %d: it does not hold that, so what has changed since is no use to it", t.path, size, h.From, h.FromSize)
	case holds == "" && !destroy:
		return fmt.Errorf("%s does not tell which volume it holds, and may be anything: what it holds would be lost: apply the streams to a new file, from the full one on; or, if it holds volume %s, say --overwrite", t.path, h.From)
	}
	if err := rename(t.path, t.partial); err != nil {
		return err
	}
	// As long as the mark stands, it says what is true of the file.
	if err := t.mark(""); err != nil {
		return fmt.Errorf("%w: %s is called %s now, and holds what it held: apply the stream again", err, t.path, t.partial)
	}
	return nil
}

// name is what the target is called while it is worked on.
func (t *target) name() string {
	if t.partial != "" {
		return t.partial
	}
	return t.path
}

func sizeOf(f *os.File) (int64, error) { return f.Seek(0, io.SeekEnd) }

// grow makes room for the records.
func (t *target) grow() error {
	size, err := sizeOf(t.f)
	if err != nil || size >= t.header.ToSize {
		return err
	}
	return t.f.Truncate(t.header.ToSize)
}

// put writes a record.
func (t *target) put(r delta.Record) error {
	if r.Data != nil {
		_, err := t.f.WriteAt(r.Data, r.Offset)
		return err
	}
	return writeZeros(t.f, r.Offset, r.Length)
}

// writeZeros makes a range read as zeros, as a hole if that is possible.
func writeZeros(f *os.File, offset, length int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
		switch err {
		case nil:
			return nil
		case unix.EINTR:
			continue
		case unix.EOPNOTSUPP, unix.ENOSYS:
			return zeroOver(f, offset, length)
		}
		return &os.PathError{Op: "punch hole", Path: f.Name(), Err: err}
	}
}

// zeroOver writes zeros where there is anything else: a hole stays one.
func zeroOver(f *os.File, offset, length int64) error {
	buffer, zeros := make([]byte, delta.MaxData), make([]byte, delta.MaxData)
	for end := offset + length; offset < end; {
		piece := buffer[:min(end-offset, delta.MaxData)]
		if _, err := f.ReadAt(piece, offset); err != nil {
			return err
		}
		if !bytes.Equal(piece, zeros[:len(piece)]) {
			if _, err := f.WriteAt(zeros[:len(piece)], offset); err != nil {
				return err
			}
		}
		offset += int64(len(piece))
	}
	return nil
}

// finish makes the target durable.
func (t *target) finish() error {
	if t.partial == "" {
		return t.f.Sync()
	}
	if err := t.f.Truncate(t.header.ToSize); err != nil {
		return err
	}
	if err := t.f.Sync(); err != nil { // the time of the last write is known now
		return err
	}
	if err := t.mark(t.header.To); err != nil {
		return err
	}
	return t.f.Sync()
}

// publish gives a file that is finished its name back.
func (t *target) publish() error {
	if t.partial == "" {
		return nil
	}
	return rename(t.partial, t.path)
}

func (t *target) close() {
	if t != nil && t.f != nil {
		t.f.Close()
	}
}

// holdsAttribute has the key of the volume that a file holds, and when it was last written
// to, in nanoseconds, where the filesystem has extended attributes: streams that are
// applied in the wrong order are found out by it, and a file that something else wrote to.
const holdsAttribute = "user.reflinksr.holds"

// holds is the volume that the mark names, "" if there is none, or can be none. written says
// that the file was written to since.
func (t *target) holds() (key string, written bool, err error) {
	value := make([]byte, 128)
	n, err := unix.Fgetxattr(int(t.f.Fd()), holdsAttribute, value)
	switch err {
	case nil:
	case unix.ENODATA, unix.EOPNOTSUPP, unix.ENOSYS:
		return "", false, nil
	default:
		return "", false, &os.PathError{Op: "reading " + holdsAttribute, Path: t.f.Name(), Err: err}
	}
	key, then, _ := strings.Cut(string(value[:n]), " ")
	now, err := t.lastWritten()
	return key, then != now, err
}

func (t *target) lastWritten() (string, error) {
	st, err := sys.Fstat(t.f)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(st.Mtim.Nano()), nil
}

func (t *target) mark(key repository.Key) (err error) {
	if key == "" {
		err = unix.Fremovexattr(int(t.f.Fd()), holdsAttribute)
	} else if then, e := t.lastWritten(); e != nil {
		return e
	} else {
		err = unix.Fsetxattr(int(t.f.Fd()), holdsAttribute, []byte(string(key)+" "+then), 0)
	}
	switch err {
	case nil, unix.ENODATA, unix.EOPNOTSUPP, unix.ENOSYS, unix.EPERM:
		return nil
	}
	return &os.PathError{Op: "setting " + holdsAttribute, Path: t.f.Name(), Err: err}
}
