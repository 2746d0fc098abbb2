package scripts

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"reflinksr/internal/smapi"
	"reflinksr/scripts/domain"
)

// domainVerb runs guests on a Xen host. They have their disks by xen-blkback, plugged
// as the toolstack does it from the answer of Datapath.attach.
func (s *script) domainVerb(not bool, args []string) error {
	if len(args) < 2 {
		return usage("domain")
	}
	if err := domain.Available(s.config.Guest); err != nil {
		return err
	}
	what, name, args := args[0], args[1], args[2:]
	d := s.domains[name]
	if what == "start" {
		if d != nil || len(args) == 0 || not {
			return usage("domain")
		}
		return s.startDomain(name, args[0], args[1:])
	}
	if d == nil {
		return fmt.Errorf("there is no domain %s", name)
	}
	if not && what != "run" && what != "unplug" && what != "plug" {
		return usage("domain")
	}
	switch what {
	case "plug":
		key, readOnly, _, err := plugArgs("plug", args)
		if err == nil {
			err = s.plugDomain(d, key, readOnly)
		}
		if err == nil {
			err = d.Connected(key)
		}
		s.setenv("DEV", d.Disk(key))
		return opposite(not, err)
	case "unplug":
		if len(args) != 1 {
			return usage("domain")
		}
		return s.unplugDomain(not, d, args[0])
	case "run":
		if len(args) == 0 {
			return usage("domain")
		}
		out, err := d.Run(s.config.timeout(), args...)
		if s.output != nil {
			io.WriteString(s.output, out)
		}
		return opposite(not, err)
	case "detach":
		if len(args) != 1 {
			return usage("domain")
		}
		return s.unplug(false, []string{args[0], "domain=" + strconv.Itoa(d.ID)})
	case "writer":
		if len(args) != 1 {
			return usage("domain")
		}
		_, err := d.Run(s.config.timeout(), "sh", "-c", fmt.Sprintf("/init writer %s /acked.%s </dev/null >/dev/null 2>&1 & echo $! >> /writers", d.Disk(args[0]), args[0]))
		if err == nil {
			err = s.markDomain(d, args[0], args[0])
		}
		return err
	case "mark":
		if len(args) != 1 {
			return usage("domain")
		}
		return s.markDomain(d, args[0], args[0])
	case "snapshot":
		if len(args) != 1 {
			return usage("domain")
		}
		return s.snapshotDomain(d, args[0])
	case "sectors":
		if len(args) != 2 {
			return usage("domain")
		}
		got, err := d.Sectors(args[0])
		if err == nil && got != args[1] {
			err = fmt.Errorf("xen-blkback tells of %s sectors, not %s", got, args[1])
		}
		return err
	case "stop", "kill":
		if len(args) != 0 {
			return usage("domain")
		}
		delete(s.domains, name)
		if what == "kill" {
			return errors.Join(d.Kill(s.config.context()), s.afterDomain(d))
		}
		return errors.Join(d.Stop(), s.afterDomain(d))
	}
	return usage("domain")
}

func opposite(not bool, err error) error {
	if !not {
		return err
	}
	if err == nil {
		return errors.New("it succeeded and should have failed")
	}
	return nil
}

// startDomain boots a guest that has disks from its beginning on.
func (s *script) startDomain(name, kind string, args []string) error {
	d, err := domain.Create(s.config.context(), s.config.Guest, name, kind)
	if err != nil {
		return err
	}
	if s.domains == nil {
		s.domains = map[string]*domain.Domain{}
	}
	s.domains[name] = d
	var keys []string
	for len(args) > 0 && err == nil {
		readOnly := len(args) > 1 && args[1] == "ro"
		keys = append(keys, args[0])
		err = s.plugDomain(d, args[0], readOnly)
		args = args[1:]
		if readOnly {
			args = args[1:]
		}
	}
	if err == nil {
		err = d.Unpause(s.config.context())
	}
	for _, key := range keys {
		if err == nil {
			err = d.Connected(key)
		}
	}
	return err
}

// plugDomain attaches and activates the disk, and tells the domain of it.
func (s *script) plugDomain(d *domain.Domain, key string, readOnly bool) error {
	p, err := s.doPlug(key, readOnly, strconv.Itoa(d.ID))
	if err != nil {
		return err
	}
	s.plugs[key] = append(s.plugs[key], p)
	params, err := xenDisk(s.backend)
	if err != nil {
		return err
	}
	return d.Plug(key, params, readOnly)
}

// xenDisk finds the params of the first XenDisk of backend type vbd in a backend.
func xenDisk(backend smapi.Backend) (string, error) {
	for _, i := range backend.Implementations {
		if i.XenDisk != nil && i.XenDisk.BackendType == "vbd" {
			return i.XenDisk.Params, nil
		}
	}
	return "", errors.New("there is no XenDisk of backend_type vbd in what Datapath.attach answered")
}

// unplugDomain takes the disk back as the toolstack does: from the guest first. A guest
// that keeps it keeps its device; the toolstack may then detach all the same.
func (s *script) unplugDomain(not bool, d *domain.Domain, key string) error {
	timeout := s.config.timeout()
	if not {
		timeout = 3 * time.Second
	}
	if err := d.Unplug(key, timeout); err != nil || not {
		return opposite(not, err)
	}
	return s.unplug(false, []string{key, "domain=" + strconv.Itoa(d.ID)})
}

// markDomain remembers, under a name, what the guest's writer has had acknowledged.
func (s *script) markDomain(d *domain.Domain, key, name string) error {
	deadline := time.Now().Add(s.config.timeout())
	for {
		out, err := d.Run(s.config.timeout(), "cat", "/acked."+key)
		var n uint64
		if err == nil {
			n, err = strconv.ParseUint(strings.TrimSpace(out), 10, 64)
		}
		if err == nil {
			s.marks[name] = n
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("nothing that the guest writes to %s is acknowledged: %w", key, err)
		}
	}
}

// snapshotDomain takes a snapshot that must hold what is acknowledged by now.
func (s *script) snapshotDomain(d *domain.Domain, key string) error {
	if err := s.markDomain(d, key, "next"); err != nil {
		return err
	}
	mark := s.marks["next"]
	delete(s.marks, "next")
	taken, err := ask(s, smapi.VolumeSnapshot{SR: s.ts.Getenv("SR"), Key: key})
	if err != nil {
		return err
	}
	delete(s.marks, key) // the disk itself goes on
	s.marks[taken.Key] = mark
	s.setenv("SNAP", taken.Key)
	return nil
}

// afterDomain takes back the disks of a domain that is no more.
func (s *script) afterDomain(d *domain.Domain) error {
	var errs error
	id := strconv.Itoa(d.ID)
	for key, plugs := range s.plugs {
		if slices.ContainsFunc(plugs, func(p plugged) bool { return p.domain == id }) {
			errs = errors.Join(errs, s.unplug(false, []string{key, "domain=" + id}))
		}
	}
	return errs
}

// endDomains ends what a scenario left running.
func (s *script) endDomains() {
	for _, d := range s.domains {
		if err := d.Kill(s.config.context()); err != nil {
			s.tell("%v", err)
		}
	}
}
