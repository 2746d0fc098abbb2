//go:build !(linux && amd64)

package trace

import "errors"

// Hook does nothing here: there is no wrapper.
func Hook() {}

// Run refuses: see the package's description.
func Run(Command) (Result, error) {
	return Result{}, errors.New("system calls can be swept on x86-64 Linux only")
}
