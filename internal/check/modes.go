package check

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/sr"
)

// exposed says whether others than root can get at a file of ours, and whether it is
// one.
func exposed(s *sr.SR, d *dirfs.Dir, name, path string, key sr.Key) []Problem {
	st, err := d.Stat(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case st == nil:
		return []Problem{{Kind: Damage, Name: path, Key: key, Text: "it cannot be looked at: " + err.Error(), Repair: Nothing("look for the cause in the kernel's log, and check again")}}
	case err != nil:
		return []Problem{{Kind: Damage, Name: path, Key: key, Text: err.Error(), Repair: Nothing("move it away")}}
	}
	return append(tooOpen(st, path, key), Unchangeable(d, name, path, key)...)
}

func tooOpen(st *unix.Stat_t, path string, key sr.Key) []Problem {
	text := exposureOf(st)
	if text == "" {
		return nil
	}
	return []Problem{{Kind: WrongMode, Name: path, Key: key, Text: text, Repairable: true, Repair: "chown root, chmod " + mode(st)}}
}

// exposureOf says how the mode and owner of a file or directory differ from those of
// ours: "" if they do not.
func exposureOf(st *unix.Stat_t) string {
	if st.Mode&0o777 == sr.PrivateMode(st) && st.Uid == 0 {
		return ""
	}
	return fmt.Sprintf("its mode is %04o and its owner %d, it should be %s and root's", st.Mode&0o7777, st.Uid, mode(st))
}

func mode(st *unix.Stat_t) string { return fmt.Sprintf("%04o", sr.PrivateMode(st)) }
