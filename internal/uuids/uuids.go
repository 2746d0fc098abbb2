package uuids

import (
	"encoding/hex"
	"strings"

	"golang.org/x/sys/unix"
)

// UUID is its 16 bytes.
type UUID [16]byte

// hyphens are where a UUID's text has them.
var hyphens = [4]int{8, 13, 18, 23}

// IsCanonical says whether s is a UUID in lower case with hyphens.
func IsCanonical(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case hyphens[0], hyphens[1], hyphens[2], hyphens[3]:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}

// Parse reads a UUID in the ways in which others write one: in any case, with or without hyphens, in braces, as a URN.
func Parse(s string) (u UUID, ok bool) {
	s = strings.ToLower(s)
	if inner, is := strings.CutPrefix(s, "urn:uuid:"); is {
		s = inner
	} else if inner, is := strings.CutPrefix(s, "{"); is {
		if inner, is = strings.CutSuffix(inner, "}"); !is {
			return u, false
		}
		s = inner
	}
	if IsCanonical(s) {
		s = strings.ReplaceAll(s, "-", "")
	}
	if len(s) != 2*len(u) {
		return u, false
	}
	_, err := hex.Decode(u[:], []byte(s))
	return u, err == nil
}

// String is the canonical text.
func (u UUID) String() string {
	text := make([]byte, 0, 36)
	for i, b := range u {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, []byte{b})
	}
	return string(text)
}

// Random makes a new one, of random numbers (RFC 9562, version 4).
func Random() (u UUID, err error) {
	for have := 0; have < len(u); {
		n, err := unix.Getrandom(u[have:], 0)
		if err != nil && err != unix.EINTR {
			return u, err
		}
		have += max(n, 0)
	}
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u, nil
}
