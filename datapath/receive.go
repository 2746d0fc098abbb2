package datapath

import (
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/rundir"
	"reflinksr/sr"
	"reflinksr/volume"
)

// ImportActivate prepares the volume, which the domain of a migration has active, to be mirrored to from a host whose disks are not of this
// kind, and returns the path of a socket that takes connections: each as a descriptor, with a name that is of no concern. On such a
// connection the volume is written to by NBD, while another one is made of what the disk held before; Volume.compose makes one of the two.
//
// Done again it returns the socket again.
func ImportActivate(uri, domain string) (socket string, err error) {
	if err := checkDomain(domain); err != nil {
		return "", err
	}
	v, err := begin(uri)
	if err != nil {
		return "", err
	}
	defer v.end()
	if err := v.must(); err != nil {
		return "", err
	}
	err = v.locked(func(s *sr.SR) error {
		r, err := volume.LoadForChange(s, v.key)
		if err == nil {
			err = r.MustHaveData(v.key)
		}
		if err == nil {
			err = s.MustMapExtents()
		}
		if err != nil {
			return err
		}
		holder, active := v.state.Holder(domain)
		switch {
		case !active || !holder.Write || !IsMigration(domain):
			return fault.Hint(fault.Errorf(fault.ErrInvalid, domain, "volume %s is not active for writing in domain %s, or that is no migration's: it cannot be mirrored to", v.key, domain),
				"attach it for a domain MIR and some digits and activate it first")
		case v.state.Nonpersistent:
			return fault.Errorf(fault.ErrInvalid, uri, "volume %s was opened as nonpersistent: what is mirrored to it would be lost", v.key)
		}
		return v.receive(s, domain)
	})
	if err != nil {
		return "", err
	}
	return socketOf(v.name) + receiveSuffix, nil
}

// receive starts the volume's server of mirrors, unless it is there.
func (v *session) receive(s *sr.SR, domain string) error {
	program := serverProgram()
	if program == "" {
		return fmt.Errorf("volume %s: %s is not installed beside the plugin, so nothing can be mirrored here: install reflinksr anew", v.key, ServerProgram)
	}
	dir, err := rundir.Open(serversDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	received, err := s.IsReceived(v.key)
	if err != nil {
		return err
	}
	if received { // then there is no other server than that
		lock, busy, err := lockServer(dir, v.name)
		if err != nil || busy {
			return err
		}
		lock.Close()
	}
	if err := v.endServer(ifIdle); err != nil {
		return err
	}
	devices, err := v.devices()
	if err == nil {
		err = v.flush(devices)
	}
	if err == nil {
		err = volume.Receive(s, v.key)
	}
	if err != nil {
		return errors.Join(err, v.serve(s, domain))
	}
	if err := startServer(program, ServeMirror, v.uri, domain); err != nil {
		return fmt.Errorf("volume %s: receiving it by NBD: %w", v.key, err)
	}
	return nil
}

// makeWhole writes what was received of the volume, and was not composed, to its file, before a domain gets it. The next mirror goes on
// with it as it is.
func (v *session) makeWhole(s *sr.SR, domain string, write bool) error {
	received, err := s.IsReceived(v.key)
	if err != nil && !write && volume.NeverReceived(s, v.key) {
		return nil // of a filesystem that failed a disk can be read that is in memory
	}
	if err != nil || !received || write && IsMigration(domain) {
		return err
	}
	if v.state.InUse() {
		return fault.Errorf(fault.ErrInUse, string(v.key), "volume %s is in use: it is mirrored from elsewhere", v.key)
	}
	slog.Warn("what was mirrored to a volume is not composed with the disk that had the rest", "key", v.key, "domain", domain)
	devices, err := v.devices()
	if err == nil {
		err = v.flush(devices)
	}
	if err == nil {
		err = volume.MakeWhole(s, v.key)
	}
	if err == nil {
		err = v.flushFile(devices)
	}
	return err
}

// flushReceived makes durable what was received of the volume sector by sector.
func (v *session) flushReceived() error {
	return v.locked(func(s *sr.SR) error {
		f, err := volume.OpenSectors(s, v.key, unix.O_RDONLY)
		if err != nil || f == nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}
