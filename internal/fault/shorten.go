package fault

import (
	"strings"
)

// Shorten keeps a foreign string readable in an error text.
func Shorten(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:77], "") + "..."
	}
	return s
}
