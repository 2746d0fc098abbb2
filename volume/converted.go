package volume

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
	"reflinksr/sr"
)

// What has been converted is known by an attribute of its file, which holds the stamp of what it was made of and when the file was
// last written to: where it is another time, or there are no attributes, nothing is known.
const stampAttribute = "user.reflinksr.converted"

func setStamp(f *os.File, stamp string) error {
	st, err := sys.Fstat(f)
	if err != nil {
		return err
	}
	err = sys.Do(func() error { return unix.Fsetxattr(int(f.Fd()), stampAttribute, []byte(stampAt(stamp, st)), 0) })
	switch err {
	case nil, unix.EOPNOTSUPP, unix.ENOSYS:
		return nil
	}
	return &os.PathError{Op: "setting " + stampAttribute, Path: f.Name(), Err: err}
}

func stampAt(stamp string, st *unix.Stat_t) string {
	return fmt.Sprintf("%s %d", stamp, st.Mtim.Nano())
}

func hasStamp(f *os.File, stamp string) (bool, error) {
	st, err := sys.Fstat(f)
	if err != nil {
		return false, err
	}
	value := make([]byte, 256)
	n, err := sys.Retry(func() (int, error) { return unix.Fgetxattr(int(f.Fd()), stampAttribute, value) })
	switch err {
	case nil:
		return string(value[:n]) == stampAt(stamp, st), nil
	case unix.ENODATA, unix.EOPNOTSUPP, unix.ENOSYS, unix.ERANGE:
		return false, nil
	}
	return false, &os.PathError{Op: "reading " + stampAttribute, Path: f.Name(), Err: err}
}

// IsConverted says whether there is a volume with that key, or a base, and whether it is for certain what was made with that stamp, and
// has not been written to since.
func IsConverted(handle string, key sr.Key, base bool, stamp string) (there, same bool, err error) {
	s, err := sr.Open(handle, dirfs.Unlocked)
	if err != nil {
		return false, false, err
	}
	defer s.Close()
	var f *os.File
	if base {
		f, err = s.Staging.Open(sr.Base(key), unix.O_RDONLY)
		if errors.Is(err, os.ErrNotExist) {
			return false, false, nil
		}
	} else {
		if _, err := Load(s, key); errors.Is(err, fault.ErrVolumeNotFound) {
			return false, false, nil
		}
		f, err = OpenData(s, key, unix.O_RDONLY)
	}
	if err != nil {
		return true, false, err
	}
	defer f.Close()
	same, err = hasStamp(f, stamp)
	return true, same, err
}

// CheckIdle has check read a volume of which nobody has anything else to do meanwhile, and which has so many bytes, and then marks
// it as converted with that stamp.
func CheckIdle(handle string, key sr.Key, size int64, stamp string, check func(Reading, int64) error) error {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	p, err := openIdle(s, key)
	if err != nil {
		return err
	}
	defer p.close()
	st, err := sys.Fstat(p.data)
	if err != nil {
		return err
	}
	if RoundUp(st.Size) != RoundUp(size) {
		return fault.Errorf(fault.ErrInvalid, string(key), "volume %s is there already, and has %d bytes instead of %d", key, st.Size, size)
	}
	if err := check(reading{p.data}, st.Size); err != nil {
		return err
	}
	f, err := OpenData(s, key, unix.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	return setStamp(f, stamp)
}

// RemoveBase removes a base, if it is there.
func RemoveBase(handle string, key sr.Key) error {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	lock, err := s.LockNew(key)
	if err != nil {
		return err
	}
	defer lock.Discard()
	return s.Staging.Remove(sr.Base(key))
}

// Bases are the keys of all that are there.
func Bases(handle string) (keys []sr.Key, err error) {
	s, err := sr.Open(handle, dirfs.Unlocked)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	names, err := s.Staging.Names()
	for _, name := range names {
		if key, err := sr.ParseKey(strings.TrimSuffix(name, sr.Base(""))); err == nil && name == sr.Base(key) {
			keys = append(keys, key)
		}
	}
	return keys, err
}

// AbandonConversion removes all bases, and what interrupted calls have left.
func AbandonConversion(handle string) error {
	keys, err := Bases(handle)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := RemoveBase(handle, key); err != nil {
			return err
		}
	}
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Recover()
}
