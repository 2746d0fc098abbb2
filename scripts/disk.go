package scripts

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/loop"
	"reflinksr/internal/smapi"
)

// plugged is a disk that a domain has.
type plugged struct {
	domain, device, uri string
}

// plug gives a domain the disk.
func (s *script) plug(not bool, args []string) error {
	key, readOnly, domain, err := plugArgs("plug", args)
	if err != nil {
		return err
	}
	p, err := s.doPlug(key, readOnly, domain)
	if not {
		var r *smapi.Failure
		if errors.As(err, &r) {
			return nil
		}
		if err == nil {
			return errors.New("succeeded and should have been refused")
		}
		return err
	}
	if err != nil {
		return err
	}
	s.plugs[key] = append(s.plugs[key], p)
	s.setenv("DEV", p.device)
	return nil
}

func plugArgs(verb string, args []string) (key string, readOnly bool, domain string, err error) {
	domain = "1"
	if len(args) == 0 {
		return "", false, "", usage(verb)
	}
	for _, arg := range args[1:] {
		if d, ok := strings.CutPrefix(arg, "domain="); ok {
			domain = d
		} else if arg == "ro" && verb == "plug" {
			readOnly = true
		} else {
			return "", false, "", usage(verb)
		}
	}
	return args[0], readOnly, domain, nil
}

func (s *script) stat(key string) (smapi.Volume, error) {
	return ask(s, smapi.VolumeStat{SR: s.ts.Getenv("SR"), Key: key})
}

// doPlug makes the toolstack's calls. A refused activation is followed by detach.
func (s *script) doPlug(key string, readOnly bool, domain string) (p plugged, err error) {
	v, err := s.stat(key)
	if err != nil {
		return p, err
	}
	if len(v.URI) == 0 {
		return p, errors.New("the volume has no URI")
	}
	p = plugged{domain: domain, uri: v.URI[0]}
	if s.backend, err = ask(s, smapi.DatapathAttach{URI: p.uri, Domain: domain}); err != nil {
		return p, err
	}
	if p.device = s.backend.Path(); p.device == "" {
		return p, fmt.Errorf("there is neither a BlockDevice nor a File in %s", encode(s.last))
	}
	var activate smapi.Request = smapi.DatapathActivate{URI: p.uri, Domain: domain}
	if readOnly {
		activate = smapi.DatapathActivateReadonly{URI: p.uri, Domain: domain}
	}
	if _, err := s.mustCall(activate); err != nil {
		refused := s.refusal
		if _, e := s.mustCall(smapi.DatapathDetach{URI: p.uri, Domain: domain}); e != nil {
			return p, errors.Join(err, e)
		}
		s.refusal = refused
		return p, err
	}
	return p, nil
}

// unplug takes the disk back.
func (s *script) unplug(_ bool, args []string) error {
	key, _, domain, err := plugArgs("unplug", args)
	if err != nil {
		return err
	}
	for i, p := range s.plugs[key] {
		if p.domain == domain {
			s.plugs[key] = append(s.plugs[key][:i:i], s.plugs[key][i+1:]...)
			return s.doUnplug(p)
		}
	}
	return fmt.Errorf("%s is not plugged to domain %s", key, domain)
}

func (s *script) doUnplug(p plugged) error {
	_, err := s.mustCall(smapi.DatapathDeactivate{URI: p.uri, Domain: p.domain})
	_, err2 := s.mustCall(smapi.DatapathDetach{URI: p.uri, Domain: p.domain})
	return errors.Join(err, err2)
}

// withDevice runs do with the device of a disk, plugging it to dom0 meanwhile if
// nobody has it. The last answer stays what it was.
func (s *script) withDevice(key string, readOnly bool, do func(path string) error) error {
	last, refused := s.last, s.refusal
	defer func() { s.last, s.refusal = last, refused }()
	if have := s.plugs[key]; len(have) > 0 {
		return do(have[0].device)
	}
	if readOnly && !s.config.carriesOut("Datapath.activate_readonly") {
		readOnly = false // to read is all that we will do
	}
	p, err := s.doPlug(key, readOnly, "u0_scenario")
	if err != nil {
		return err
	}
	return errors.Join(do(p.device), s.doUnplug(p))
}

// device checks a plugged disk's properties.
func (s *script) device(_ bool, args []string) error {
	if len(args) < 2 {
		return usage("device")
	}
	have := s.plugs[args[0]]
	if len(have) == 0 {
		return fmt.Errorf("%s is not plugged", args[0])
	}
	got, err := properties(have[0].device)
	if err != nil {
		return err
	}
	for _, arg := range args[1:] {
		name, want, _ := strings.Cut(arg, "=")
		if name == "size" {
			n, err := ParseBytes(want)
			if err != nil {
				return err
			}
			want = fmt.Sprint(n)
		}
		value, ok := got[name]
		if !ok {
			return usage("device")
		}
		if value != want {
			return fmt.Errorf("%s of %s is %s, want %s", name, have[0].device, value, want)
		}
	}
	return nil
}

// properties asks the kernel what a block device is (linux/fs.h, BLK…).
func properties(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var size uint64
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size))); errno != 0 {
		return nil, fmt.Errorf("%s is no block device: %w", path, errno)
	}
	sector, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err != nil {
		return nil, err
	}
	readOnly, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET)
	if err != nil {
		return nil, err
	}
	got := map[string]string{"size": fmt.Sprint(size), "sector": fmt.Sprint(sector), "ro": fmt.Sprint(min(readOnly, 1))}
	var d loop.Device
	if _, err := fmt.Sscanf(path, "/dev/loop%d", &d.Number); err == nil {
		info, err := d.Info()
		if err != nil {
			return nil, err
		}
		got["dio"] = map[bool]string{false: "0", true: "1"}[info.DirectIO]
	}
	return got, nil
}

// guest runs a command on a plugged disk.
func (s *script) guest(not bool, args []string) error {
	if len(args) < 2 {
		return usage("guest")
	}
	have := s.plugs[args[0]]
	if len(have) == 0 {
		return fmt.Errorf("%s is not plugged", args[0])
	}
	command := make([]string, 0, len(args))
	for _, arg := range args[1:] {
		command = append(command, strings.ReplaceAll(arg, "DEV", have[0].device))
	}
	s.wrote(args[0]) // it may
	c := exec.CommandContext(s.config.context(), command[0], command[1:]...)
	c.Dir = s.work
	out, err := c.CombinedOutput()
	if len(out) > 0 {
		s.tell("%s", bytes.TrimSpace(out))
	}
	if (err != nil) != not {
		return fmt.Errorf("%s: %v", strings.Join(command, " "), err)
	}
	return nil
}
