package source

import (
	"net/netip"
	"strings"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/mount"
	"reflinksr/internal/program"
)

// cleanServer accepts the name or the address of a file server; one of IPv6 may be in
// brackets. What it accepts cannot end an option of mount(2) and begin another.
func cleanServer(server string) (string, error) {
	bare := server
	if strings.HasPrefix(server, "[") && strings.HasSuffix(server, "]") {
		bare = server[1 : len(server)-1]
	}
	if ip, err := netip.ParseAddr(bare); err == nil && ip.Zone() == "" {
		return ip.String(), nil
	}
	letter := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._", r)
	}
	if server == "" || len(server) > 253 || strings.TrimFunc(server, letter) != "" || strings.HasPrefix(server, "-") {
		return "", fault.Errorf(fault.ErrInvalid, "server", "configuration %q is %q, it must be the name or the IP address of a file server", "server", fault.Shorten(server))
	}
	return server, nil
}

// export is what the kernel, and /proc/self/mountinfo, call the export.
func (s Source) export() string {
	if strings.Contains(s.Server, ":") {
		return "[" + s.Server + "]:" + s.ServerPath
	}
	return s.Server + ":" + s.ServerPath
}

// mountableExport is what mount(2) is told of an export whose server has the address ip:
// what mount.nfs(8) would tell it. vers=4.2 can clone ranges of files; hard: a guest's
// write waits for a server that is away, and does not fail. The callback's address
// (clientaddr) is only needed by NFS 4.0.
func (s Source) mountableExport(ip netip.Addr) mount.Spec {
	return mount.Spec{Source: s.export(), Kind: "nfs4", Flags: mount.Flags, Data: "vers=4.2,hard,addr=" + ip.String()}
}

// resolve finds the address of a file server: mount(2) knows no names. getent asks as
// mount.nfs would, whatever /etc/nsswitch.conf says; and the resolver of package net would
// make the program of every call 0.4 MB larger.
func resolve(server string) (netip.Addr, error) {
	if ip, err := netip.ParseAddr(server); err == nil {
		return ip, nil
	}
	status, out, err := program.Run("glibc-common (or libc-bin)", "getent", "ahosts", server)
	if err != nil {
		return netip.Addr{}, err
	}
	first, _, _ := strings.Cut(out, " ")
	ip, err := netip.ParseAddr(first)
	if status != 0 || err != nil {
		return netip.Addr{}, fault.Hint(fault.Errorf(fault.ErrUnavailable, server, "the file server %s cannot be found", server),
			"see /etc/hosts and /etc/resolv.conf, or give its IP address")
	}
	return ip.Unmap(), nil
}

// PeekExport runs do with the directory of the export, which is mounted privately.
func (c Configuration) PeekExport(do func(root *dirfs.Dir) error) error {
	m, err := c.mountable()
	if err != nil {
		return err
	}
	return m.Peek(m.Source, do)
}
