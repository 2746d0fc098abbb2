package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
)

// one makes what is done with a volume one of a command's arguments SR VOLUME.
func (s *session) one(do func(ctx context.Context, v repository.Volume) error) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		v, err := s.volumeAt(ctx, args[0], args[1])
		if err != nil {
			return err
		}
		return do(ctx, v)
	}
}

func (s *session) snapshot() *cobra.Command {
	return command("snapshot SR VOLUME", "take a snapshot; prints its key",
		`snapshot makes a read-only volume with what the volume holds at this moment, and
prints its key. No data is copied, and a guest may go on writing.`,
		`  srctl snapshot /srv/tank $KEY
  SNAPSHOT=$(srctl snapshot /srv/tank $KEY)`, 2, 2, s.one(func(ctx context.Context, v repository.Volume) error {
			made, err := v.Snapshot(ctx)
			return s.made(made, err)
		}))
}

func (s *session) clone() *cobra.Command {
	return command("clone SR VOLUME", "make a writable clone; prints its key",
		`clone makes a writable volume with what the volume holds at this moment, and prints
its key. No data is copied.`,
		`  srctl clone /srv/tank $SNAPSHOT`, 2, 2, s.one(func(ctx context.Context, v repository.Volume) error {
			made, err := v.Clone(ctx)
			return s.made(made, err)
		}))
}

// made tells the key of a new volume.
func (s *session) made(v repository.VolumeStat, err error) error {
	if err == nil {
		fmt.Fprintln(s.out, v.Key)
	}
	return err
}

func (s *session) destroy() *cobra.Command {
	return command("destroy SR VOLUME", "destroy a volume that is not in use",
		`destroy removes a volume, for good. One that somebody has is refused. What it
shares with others stays theirs; srctl du tells what is given back.`,
		`  srctl destroy /srv/tank $KEY`, 2, 2, s.one(func(ctx context.Context, v repository.Volume) error {
			if _, err := v.Stat(ctx); errors.Is(err, fault.ErrVolumeNotFound) {
				return err // to the toolstack that is success; a person has mistyped
			}
			return v.Destroy(ctx)
		}))
}

func (s *session) revert() *cobra.Command {
	return command("revert SR SNAPSHOT VOLUME", "give a volume the contents of a snapshot",
		`revert gives a volume the contents of a snapshot. The volume keeps its key; what
it held is lost, unless it is snapshotted first. It must be idle.`,
		`  srctl snapshot /srv/tank $KEY
  srctl revert /srv/tank $SNAPSHOT $KEY`, 3, 3, func(ctx context.Context, args []string) error {
			snapshot, v, err := s.volumesAt(ctx, args[0], args[1], args[2])
			if err != nil {
				return err
			}
			return v.Revert(ctx, snapshot.Key)
		})
}
