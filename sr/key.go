package sr

import (
	"strings"

	"github.com/google/uuid"
)

// Key names a volume: a UUID in canonical form (lower case, with hyphens). A Key
// is only made by ParseKey and NewKey, so it is always a safe file name.
type Key string

// ParseKey accepts a canonical lower-case UUID and nothing else. The error is
// ErrVolumeNotFound and carries s: what is no key can name no volume.
func ParseKey(s string) (Key, error) {
	if !canonical(s) {
		return "", Errorf(ErrVolumeNotFound, s, "volume %q: no such volume: a key is a lower-case UUID", shorten(s))
	}
	return Key(s), nil
}

// NewKey makes a fresh random key.
func NewKey() (Key, error) {
	u, err := uuid.NewRandom()
	return Key(u.String()), err
}

func canonical(s string) bool {
	u, err := uuid.Parse(s)
	return err == nil && u.String() == s
}

// shorten keeps a foreign string readable in an error text.
func shorten(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:77], "") + "..."
	}
	return s
}
