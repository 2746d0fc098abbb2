// Package tapdisk is the source of a migration from SMAPIv1 to who receives it: the toolstack's handing over of a connection, and tapdisk at its other end.
package tapdisk

import (
	"context"
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/nbd"
)

// Connect hands one end of a connection to the socket that Datapath.import_activate answered, with a name, as xapi does, and speaks on the other as tapdisk does:
// by the oldest option, and the name with its zero byte. From then on the first end is the plugin's alone, so its end is noticed.
func Connect(socket string, o nbd.Options) (*nbd.Client, error) {
	to, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer to.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours := os.NewFile(uintptr(pair[1]), "tapdisk's end")
	defer ours.Close()
	_, _, err = to.WriteMsgUnix([]byte("leaf_dp"), unix.UnixRights(pair[0]), nil)
	if err := errors.Join(err, unix.Close(pair[0])); err != nil {
		return nil, err
	}
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	o.Plain = true
	return nbd.Connect(context.Background(), conn, "tapdisk_client\x00", o)
}
