package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/repository"
	"reflinksr/internal/rundir"
)

// errAnother says that another process has the lock.
var errAnother = errors.New("is at work: try again when it has ended")

// lockFile keeps other processes off what a file stands for, which is made, until what it gives is closed: errAnother if one has it.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if err == unix.EWOULDBLOCK {
		return nil, errAnother
	}
	return nil, fmt.Errorf("locking %s: %w", path, err)
}

// lockDisk keeps other processes of this host that do the same with a disk off it.
func lockDisk(what string, disk repository.Key) (*os.File, error) {
	dir, err := rundir.Open(what)
	if err != nil {
		return nil, err
	}
	dir.Close()
	f, err := lockFile(filepath.Join(rundir.Path, what, string(disk)+".lock"))
	if errors.Is(err, errAnother) {
		err = fmt.Errorf("another %s of volume %s %w", what, disk, err)
	}
	return f, err
}

// longestWait is how long waitForDisk waits.
const longestWait = 5 * time.Minute

// waitForDisk is lockDisk for what may come at the same time as another.
func waitForDisk(ctx context.Context, what string, disk repository.Key) (*os.File, error) {
	for end := time.Now().Add(longestWait); ; {
		f, err := lockDisk(what, disk)
		if !errors.Is(err, errAnother) || time.Now().After(end) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
