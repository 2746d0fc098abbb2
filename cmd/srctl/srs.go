package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
)

// srs are commands for hosts without a toolstack.
func (s *session) srs() *cobra.Command {
	var n repository.NewSR
	filesystem, wipe, options := "", false, []string(nil)
	create := s.takes(s.answersJSON(command("create PLACE", "make an SR, and attach it; prints its directory",
		`create makes an SR in a directory on XFS or btrfs, or on a blank block device, on which it
makes the filesystem, and attaches it here. A device that is not blank is refused, or with
--wipe loses all that is on it. Of a directory with an old file SR (*.inf) that is adopted.`,
		`  srctl sr create /dev/sdb --name tank
  srctl sr create /srv/tank
  losetup --find --show disk.img`, 1, 1,
		func(ctx context.Context, args []string) error {
			conf, err := placeOf(args[0])
			if err != nil {
				return err
			}
			for _, o := range options {
				key, value, ok := strings.Cut(o, "=")
				if _, known := repository.Configuration()[key]; !ok || !known || key == "wipe" {
					return misused("--option %q is not KEY=VALUE of what docs/install.md lists", o)
				}
				conf[key] = value
			}
			if filesystem != "" {
				conf["filesystem"] = filesystem
			}
			if wipe {
				if err := s.sure("destroy all that is on %s", oneLine(args[0])); err != nil {
					return err
				}
				conf["wipe"] = "yes"
			}
			n.UUID, n.Configuration = uuid.NewString(), conf
			stop := busy("making an SR")
			made, err := repository.Create(ctx, n)
			stop()
			if err != nil {
				return err
			}
			return s.attachSR(ctx, made)
		})), aFile)
	create.Flags().StringVar(&n.Name, "name", "", "its `NAME`")
	create.Flags().StringVar(&n.Description, "description", "", "a `TEXT` about it")
	create.Flags().StringVar(&filesystem, "filesystem", "", "of a device: `KIND` xfs (by default) or btrfs")
	create.Flags().BoolVar(&wipe, "wipe", false, "of a device: whatever is on it, if nobody uses it")
	create.Flags().StringArrayVar(&options, "option", nil, "`KEY=VALUE` of the SR's configuration, as sector_size=4096")
	offers(create, "filesystem", []string{"xfs", "btrfs"})
	return family("sr", "make, attach, detach and destroy SRs without a toolstack",
		`sr is for hosts without a toolstack, for trying, and for rescue. Where there is one
(XCP-ng), it makes and attaches SRs itself: xe sr-create, xe pbd-plug; it does not
know of those that are made here until they are introduced to it (xe sr-introduce).`,
		create,
		s.takes(s.answersJSON(command("attach PLACE", "attach an SR that is there; prints its directory",
			`attach makes the SR in a directory, or on a block device, usable on this host, and
finishes what a crash interrupted. It has to be done again after a boot.`,
			`  srctl sr attach /dev/sdb
  srctl sr attach /srv/tank`, 1, 1, s.attachPlace)), aFile),
		s.takes(s.answersJSON(command("detach SR", "end what attach began; nothing is lost",
			`detach unmounts an SR that is on a device, and forgets it on this host. One of whose
disks is in use is refused.`,
			`  srctl sr detach tank`, 1, 1, func(ctx context.Context, args []string) error {
				return s.endSR(ctx, args[0], func(sr repository.SR) error { return sr.Detach(ctx) })
			})), anSR),
		s.takes(s.answersJSON(command("destroy SR", "destroy an SR with all that is in it",
			`destroy removes an SR with all its volumes, for good. A device is blank then; of a
directory what is foreign in it stays.`,
			`  srctl sr destroy tank`, 1, 1, func(ctx context.Context, args []string) error {
				return s.endSR(ctx, args[0], func(sr repository.SR) error {
					volumes, err := sr.List(ctx)
					if err != nil {
						return err
					}
					if err := s.sure("destroy the SR in %s, with all of its volumes (%d)", oneLine(s.path), len(volumes)); err != nil {
						return err
					}
					stop := busy("destroying an SR")
					defer stop()
					if err := sr.Destroy(ctx); err != nil {
						return err
					}
					return sr.Detach(ctx) // of what is no more
				})
			})), anSR))
}

// placeOf is the configuration of an SR in a directory, or on a block device.
func placeOf(place string) (map[string]string, error) {
	path, err := filepath.Abs(place)
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case st.IsDir():
		return map[string]string{"path": path}, nil
	case st.Mode()&os.ModeDevice != 0 && st.Mode()&os.ModeCharDevice == 0:
		return map[string]string{"device": path}, nil
	case st.Mode().IsRegular():
		return nil, fault.Hint(fmt.Errorf("%s is a file, and an SR needs a directory or a block device", place), "make a device of it: losetup --find --show %s", place)
	}
	return nil, fmt.Errorf("%s is neither a directory nor a block device", place)
}

// attachPlace attaches what a probe finds at a place.
func (s *session) attachPlace(ctx context.Context, args []string) error {
	conf, err := placeOf(args[0])
	if err != nil {
		return err
	}
	found, err := repository.Probe(ctx, conf)
	if err != nil {
		return err
	}
	for _, c := range found {
		if c.SR != nil {
			return s.attachSR(ctx, c.Configuration)
		}
	}
	return fault.Hint(fmt.Errorf("there is no SR at %s", args[0]), "srctl sr create makes one")
}

// attachSR attaches an SR, and tells where it is.
func (s *session) attachSR(ctx context.Context, conf map[string]string) error {
	sr, err := repository.Attach(ctx, conf)
	if err != nil {
		return err
	}
	return s.toldSR(ctx, sr)
}

func (s *session) toldSR(ctx context.Context, sr repository.SR) error {
	path, err := sr.Path()
	if err != nil {
		return err
	}
	if !s.json {
		_, err = fmt.Fprintln(s.out, oneLine(path))
		return err
	}
	st, err := sr.Stat(ctx)
	if err != nil {
		return err
	}
	return printJSON(s.out, attachedSR{st, path})
}

// endSR does something with an SR, and tells programs which it was.
func (s *session) endSR(ctx context.Context, named string, do func(repository.SR) error) error {
	sr, err := s.at(ctx, named)
	if err != nil {
		return err
	}
	st, err := sr.Stat(ctx)
	if err != nil {
		return err
	}
	path := s.path
	if err := do(sr); err != nil || !s.json {
		return err
	}
	return printJSON(s.out, attachedSR{st, path})
}
