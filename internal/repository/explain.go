package repository

import (
	"fmt"

	"reflinksr/internal/filesystem"
)

// Explain adds to the error of a use case on the SR in the directory path ("" if nobody knows which) what the system's
// own error leaves out: what there was no more of, and what keeps a file from being written. Every door tells its errors
// by way of it.
func Explain(path string, err error) error {
	if path != "" {
		err = filesystem.Explain(path, err)
	}
	if why := filesystem.Refusal(err); why != "" {
		err = fmt.Errorf("%w: %s", err, why)
	}
	return err
}
