package uuids

import (
	"github.com/google/uuid"
)

// IsCanonical says whether s is a UUID in lower case with hyphens.
func IsCanonical(s string) bool {
	u, err := uuid.Parse(s)
	return err == nil && u.String() == s
}
