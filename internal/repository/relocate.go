package repository

import (
	"context"

	"reflinksr/internal/filesystem"
	"reflinksr/sr"
)

// Relocate makes a detached SR that was moved or restored to another filesystem at home there:
// fault.ErrSRInUse if it is attached. For the operator only, who has made sure that it is no
// copy. The same twice says that it was at home already.
func Relocate(_ context.Context, path string) (from, to filesystem.Identity, err error) {
	return sr.Relocate(path)
}
