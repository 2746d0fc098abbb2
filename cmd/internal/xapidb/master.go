package xapidb

import (
	"errors"
	"os"
	"strings"

	"reflinksr/internal/fault"
)

// PoolFile says whether this host is its pool's master: only that one's database is of now.
const PoolFile = "/etc/xensource/pool.conf"

// IsMaster refuses a host of which that file does not say that it is its pool's master.
func IsMaster(path string) error {
	text, err := os.ReadFile(path)
	what := "is a member of its pool, and not its master"
	switch {
	case err == nil && strings.TrimSpace(string(text)) == "master":
		return nil
	case errors.Is(err, os.ErrNotExist):
		what = "has no " + path + ", as hosts of a pool have"
	case err != nil:
		return err
	}
	return fault.Hint(fault.Errorf(fault.ErrInvalid, path, "this host %s: what uses a disk is not known here", what),
		"on the master: xe pool-dump-database file-name=FILE; copy FILE here, and say --database FILE")
}
