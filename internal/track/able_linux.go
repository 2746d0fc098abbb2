package track

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Able is why this host lets nobody trace a device, or nil.
func Able() error {
	if err := membarrier(membarrierQuery); err != nil {
		return err
	}
	root, err := open()
	if err != nil {
		return err
	}
	defer unix.Close(root)
	if _, err := readFormats(root); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if err := unix.Faccessat(root, instances, unix.W_OK, 0); err != nil {
		return fmt.Errorf("%w: tracefs %s: %w", ErrUnsupported, instances, err)
	}
	return nil
}

// Commands of membarrier(2).
const (
	membarrierQuery  = 0
	membarrierGlobal = 1
)

func membarrier(command uintptr) error {
	supported, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, command, 0, 0)
	if errno != 0 {
		return fmt.Errorf("%w: membarrier: %w", ErrUnsupported, errno)
	}
	if command == membarrierQuery && supported&membarrierGlobal == 0 {
		return fmt.Errorf("%w: its processors cannot be waited for (membarrier; nohz_full?)", ErrUnsupported)
	}
	return nil
}
