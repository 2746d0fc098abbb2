package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"reflinksr/internal/repository"
	"reflinksr/internal/units"
)

func (s *session) create() *cobra.Command {
	var n repository.NewVolume
	c := s.takes(s.answersJSON(command("create SR SIZE", "make an empty disk; prints its key",
		`create makes an empty disk of at least SIZE bytes (10G, 1.5T, 4096), thin: it takes
space as it is written to. The toolstack sees it at its next scan of the SR.`,
		`  srctl create tank 10G --name web
  KEY=$(srctl create tank 1.5T)`, 2, 2, func(ctx context.Context, args []string) error {
			var err error
			if n.Size, err = units.Parse(args[1]); err != nil {
				return err
			}
			if n.SectorSize != 0 && n.SectorSize != 512 && n.SectorSize != 4096 {
				return misused("--sector-size %d: sectors have 512 or 4096 bytes", n.SectorSize)
			}
			sr, err := s.at(ctx, args[0])
			if err != nil {
				return err
			}
			made, err := sr.Create(ctx, n)
			return s.made(made, err)
		})), anSR)
	c.Flags().StringVar(&n.Name, "name", "", "its `NAME`")
	c.Flags().StringVar(&n.Description, "description", "", "a `TEXT` about it")
	c.Flags().BoolVar(&n.Sharable, "sharable", false, "several guests may write to it at once")
	c.Flags().IntVar(&n.SectorSize, "sector-size", 0, "sectors of so many `BYTES`, 512 or 4096, whatever other disks of the SR have")
	c.Flags().BoolVar(&n.Exact, "exact", false, "no larger than SIZE: without it sizes are rounded up to 2 MiB, which backup programs ask for")
	return c
}

func (s *session) rename() *cobra.Command {
	return s.takes(s.answersJSON(command("rename SR VOLUME NAME", "give a volume another name",
		`rename gives a volume another name. Its key stays, and with that all by which others
know it. The toolstack sees the new name at its next scan of the SR.`,
		`  srctl rename tank web 'web server, old'`, 3, 3, func(ctx context.Context, args []string) error {
			return s.edit(ctx, args, func(v repository.Volume) error { return v.SetName(ctx, args[2]) })
		})), anSR, aVolume)
}

func (s *session) describe() *cobra.Command {
	return s.takes(s.answersJSON(command("describe SR VOLUME TEXT", "give a volume another description",
		`describe gives a volume another description.`,
		`  srctl describe tank web 'before the upgrade'`, 3, 3, func(ctx context.Context, args []string) error {
			return s.edit(ctx, args, func(v repository.Volume) error { return v.SetDescription(ctx, args[2]) })
		})), anSR, aVolume)
}

func (s *session) resize() *cobra.Command {
	return s.takes(s.answersJSON(command("resize SR VOLUME SIZE", "make a disk larger, also while a guest has it",
		`resize makes a disk at least SIZE bytes long (10G), or longer by so much (+10G), at once
also for a guest that has it. A disk never shrinks: what is at its end would be lost.`,
		`  srctl resize tank web 20G
  srctl resize tank web +512M`, 3, 3, func(ctx context.Context, args []string) error {
			more, relative := strings.CutPrefix(args[2], "+")
			size, err := units.Parse(more)
			if err != nil {
				return err
			}
			return s.edit(ctx, args, func(v repository.Volume) error {
				if relative {
					st, err := v.Stat(ctx)
					if err != nil {
						return err
					}
					if size += st.VirtualSize; size < 0 {
						return fmt.Errorf("%s more than %s is no size that a disk can have", s.bytes(size-st.VirtualSize), s.bytes(st.VirtualSize))
					}
				}
				return v.Resize(ctx, size)
			})
		})), anSR, aVolume)
}

// edit changes the volume of the arguments SR VOLUME, and tells programs what it is like then.
func (s *session) edit(ctx context.Context, args []string, do func(repository.Volume) error) error {
	v, err := s.volumeAt(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	if err := do(v); err != nil || !s.json {
		return err
	}
	st, err := v.Stat(ctx)
	if err != nil {
		return err
	}
	return printJSON(s.out, s.disk(st))
}

func (s *session) copy() *cobra.Command {
	return s.takes(s.answersJSON(command("copy SR VOLUME DESTINATION", "copy a disk to another SR; prints its new key",
		`copy makes a writable disk in the SR DESTINATION with what the volume holds at this
moment; it may be in use. Where both SRs are on one filesystem the blocks are
shared, at once; else they are copied, of which holes are none. Until all of it is
there and durable, there is no new disk: an interrupted copy leaves nothing, and
begins anew.`,
		`  srctl copy tank web /srv/archive`, 3, 3, s.copyDisk)), anSR, aVolume, anSR)
}

func (s *session) copyDisk(ctx context.Context, args []string) error {
	to, err := s.at(ctx, args[2])
	if err != nil {
		return err
	}
	there := s.path
	v, err := s.volumeAt(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	ctx, stop := untilEnded(ctx)
	defer stop()
	var made repository.VolumeStat
	err = withProgress(ctx, "copying", func(moved func(done, total int64)) error {
		made, err = v.CopyTo(ctx, to, moved)
		return err
	})
	s.path = there
	return s.made(made, beginsAnew(ctx, err))
}

func (s *session) cbt() *cobra.Command {
	to := func(use, short, long string, do func(context.Context, repository.Volume) error) *cobra.Command {
		return s.takes(s.answersJSON(command(use+" SR VOLUME", short, long, "  srctl cbt "+use+" tank web", 2, 2, func(ctx context.Context, args []string) error {
			return s.edit(ctx, args, func(v repository.Volume) error { return do(ctx, v) })
		})), anSR, aVolume)
	}
	return family("cbt", "say whether changed blocks may be asked for",
		`cbt says whether changed blocks of a volume may be asked for, which backup programs do.
Nothing is tracked for that: it costs nothing.`,
		to("on", "let changed blocks be asked for",
			"on lets changed blocks be asked for: snapshots that are taken from now on may lose their data (data-destroy) and still tell what has changed since.", func(ctx context.Context, v repository.Volume) error { return v.EnableCBT(ctx) }),
		to("off", "let them not be asked for",
			"off ends that for snapshots that are taken from now on.", func(ctx context.Context, v repository.Volume) error { return v.DisableCBT(ctx) }))
}

func (s *session) dataDestroy() *cobra.Command {
	return s.takes(s.answersJSON(command("data-destroy SR SNAPSHOT", "destroy a snapshot's data, and keep what has changed since",
		`data-destroy gives back the space of a snapshot that was taken with changed block
tracking (cbt on). It cannot be read any more, but goes on telling what has changed
since.`,
		`  srctl data-destroy tank $SNAPSHOT`, 2, 2, func(ctx context.Context, args []string) error {
			return s.edit(ctx, args, func(v repository.Volume) error {
				st, err := v.Stat(ctx)
				if err != nil {
					return err
				}
				if err := s.sure("destroy all that %s holds", s.described(st)); err != nil {
					return err
				}
				stop := busy("destroying data")
				defer stop()
				return v.DestroyData(ctx)
			})
		})), anSR, aVolume)
}

// domain is what srctl is called among those that have volumes active.
const domain = repository.Operator

func (s *session) attach() *cobra.Command {
	readOnly := false
	c := s.takes(s.answersJSON(command("attach SR VOLUME", "make a volume a block device of this host; prints its path",
		`attach makes a volume a block device of this host, to be written to unless it is a
snapshot, and prints the device's path. Nobody else can write to the volume until
detach; one that a guest has is refused. The partitions on it are not looked at:
what a guest wrote may be made to harm whoever mounts it.`,
		`  srctl attach tank web
  srctl attach --read-only tank $SNAPSHOT`, 2, 2, s.one(func(ctx context.Context, v repository.Volume) error {
			device, err := v.AttachHere(ctx, domain, readOnly)
			return s.toldDevice(v, device, err)
		}))), anSR, aVolume)
	c.Flags().BoolVar(&readOnly, "read-only", false, "only to be read")
	return c
}

// toldDevice tells by which device a volume is there.
func (s *session) toldDevice(v repository.Volume, device string, err error) error {
	if err != nil {
		return err
	}
	if s.json {
		return printJSON(s.out, map[string]string{"key": string(v.Key), "path": s.pathOf(v), "device": device})
	}
	_, err = fmt.Fprintln(s.out, device)
	return err
}

func (s *session) detach() *cobra.Command {
	return s.takes(s.answersJSON(command("detach SR VOLUME", "end what attach began",
		`detach takes the device away that attach made, or a migration that was killed. What was
written is durable then. A device that is mounted, or that another device is made of, is refused.`,
		`  srctl detach tank web`, 2, 2, s.one(func(ctx context.Context, v repository.Volume) error {
			device, err := v.DeviceHere(ctx, domain)
			if err == nil && device == "" {
				if was, e := ofKilledMove(ctx, v); was || e != nil {
					return e
				}
			}
			if err == nil && device != "" {
				err = unclaimed(device)
			}
			if err == nil {
				err = v.DetachHere(ctx, domain)
			}
			if err != nil || !s.json {
				return err
			}
			return printJSON(s.out, map[string]string{"key": string(v.Key), "path": s.pathOf(v)})
		}))), anSR, aVolume)
}

// ofKilledMove gives back a volume that a migration had when it was killed, if it is that.
func ofKilledMove(ctx context.Context, v repository.Volume) (bool, error) {
	device, err := v.DeviceHere(ctx, mover)
	if err != nil || device == "" {
		return false, err
	}
	lock, err := lockDisk("migration", v.Key)
	if err != nil {
		return false, err
	}
	defer lock.Close()
	return true, v.DetachHere(ctx, mover)
}

// unclaimed refuses a device that somebody has for himself: a filesystem that is mounted, or another device.
func unclaimed(device string) error {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%s is in use: it is mounted, or a device is made of it: end that first (lsblk %s shows it)", device, device)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENXIO):
		return nil // it is gone already
	case err != nil:
		return err
	}
	return f.Close()
}
