package nbd

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// roomy lets the kernel take a whole reply, or request, of 1 MiB at once: a sender that is woken for each part of it, for as much as
// fits by default (200 KiB), is several times as slow. Who may not ask for so much (CAP_NET_ADMIN) gets what the system allows.
func roomy(conn net.Conn) {
	const room = 2 << 20
	c, is := conn.(syscall.Conn)
	if !is {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, room) != nil {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, room) //nolint:errcheck // slower is no failure
		}
	})
}
