package sys

import (
	"os"
)

// Text is what a file of /proc or /sys says; "" if it cannot be read.
func Text(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}
