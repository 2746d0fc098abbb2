package sr

import (
	"reflinksr/internal/fault"
	"reflinksr/internal/uuids"
)

// Key names a volume: a UUID in canonical form (lower case, with hyphens). A Key
// is only made by ParseKey and NewKey, so it is always a safe file name.
type Key string

// ParseKey accepts a canonical lower-case UUID and nothing else. The error is
// ErrVolumeNotFound and carries s: what is no key can name no volume.
func ParseKey(s string) (Key, error) {
	if !IsKey(s) {
		return "", fault.Errorf(fault.ErrVolumeNotFound, s, "volume %q: no such volume: a key is a lower-case UUID", fault.Shorten(s))
	}
	return Key(s), nil
}

// IsKey says whether ParseKey would accept a string.
func IsKey(s string) bool { return uuids.IsCanonical(s) }

// NewKey makes a fresh random key.
func NewKey() (Key, error) {
	u, err := uuids.Random()
	return Key(u.String()), err
}
