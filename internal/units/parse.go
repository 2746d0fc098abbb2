package units

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ErrSize is for a text that is no size.
var ErrSize = errors.New("no size: a number of bytes, or one with K, M, G, T, P or E (or KiB …, EiB) for powers of 1024, like 10G or 1.5T")

// Parse reads a size that a person wrote, in bytes. What would be no whole number of bytes, or more than there can be, is ErrSize.
func Parse(text string) (int64, error) {
	number := strings.TrimRight(text, "KMGTPEBkmgtpebi ")
	unit, known := factor(strings.ToLower(strings.TrimSpace(text[len(number):])))
	bad := fmt.Errorf("%.40q is %w", text, ErrSize)
	if !known || number == "" || strings.Trim(number, "0123456789.") != "" {
		return 0, bad
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		if n > math.MaxInt64/unit {
			return 0, bad
		}
		return n * unit, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if n := f * float64(unit); err == nil && n < math.MaxInt64 && n == math.Trunc(n) {
		return int64(n), nil
	}
	return 0, bad
}

func factor(unit string) (int64, bool) {
	if unit == "" || unit == "b" {
		return 1, true
	}
	power := strings.Index("kmgtpe", unit[:1]) + 1
	if power == 0 || unit[1:] != "" && unit[1:] != "ib" {
		return 0, false // also kb and its like, of which nobody knows whether they are decimal
	}
	return 1 << (10 * power), true
}
