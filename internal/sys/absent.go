package sys

import (
	"errors"
	"os"
)

// UnlessAbsent is an error, but nil of one that says that something is not there.
func UnlessAbsent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
