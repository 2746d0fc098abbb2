package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
	"reflinksr/internal/uuids"
)

// ours are the snapshots in the SR that were made for backups of the disk.
func (b *backupRun) ours(ctx context.Context) (all []repository.VolumeStat, err error) {
	volumes, err := b.v.SR.List(ctx)
	for _, v := range volumes {
		if v.Keys[keyBackup] != "" && v.Keys[keyOf] == string(b.v.Key) && !v.ReadWrite {
			all = append(all, v)
		}
	}
	return all, err
}

// mine are those for this directory.
func (b *backupRun) mine(ctx context.Context) (all []repository.VolumeStat, err error) {
	ours, err := b.ours(ctx)
	return slices.DeleteFunc(ours, func(v repository.VolumeStat) bool { return v.Keys[keyBackup] != string(b.st.ID) }), err
}

// open reads what the directory has of the disk, or begins with nothing. By the ID of that snapshots are known: it is durable
// before there is one.
func (b *backupRun) open(ctx context.Context, full bool) (err error) {
	if b.st, err = openStore(b.dir, b.v.Key); errors.Is(err, os.ErrNotExist) {
		path := filepath.Join(b.dir, string(b.v.Key))
		if err = os.Mkdir(path, 0o700); err == nil {
			err = syncDirectory(b.dir)
		}
		if err == nil {
			b.st, err = openStore(b.dir, b.v.Key)
		}
	}
	if err != nil {
		return err
	}
	before := b.st.Catalogue
	ours, err := b.ours(ctx)
	if err != nil {
		return err
	}
	if b.st.renewed && len(b.st.Points) > 0 {
		b.st.ID = b.knownBy(ours)
	}
	if b.st.ID == "" {
		if err := b.mayBegin(ours, full); err != nil && len(b.st.Points) == 0 {
			return err
		}
		id, err := uuids.Random()
		if err != nil {
			return err
		}
		b.st.ID = repository.Key(id.String())
	}
	sr, err := srUUID(ctx, b.v.SR)
	if err != nil {
		return err
	}
	if b.st.SR != "" && b.st.SR != sr {
		return fault.Hint(fmt.Errorf("%s has backups of volume %s of the SR %s, and this is another disk of the same key, of the SR %s", b.dir, b.v.Key, b.st.SR, sr),
			"give the disks of this SR a directory of their own")
	}
	b.st.Name, b.st.SR = b.disk.Name, sr
	if size, err := b.v.SectorSize(ctx); err == nil { // else the snapshot says what is wrong
		b.st.SectorSize = size
	}
	// Where there is no room left, only what has changed needs any.
	if b.st.renewed || before.ID != b.st.ID || before.Name != b.st.Name || before.SR != b.st.SR || before.SectorSize != b.st.SectorSize {
		if err := b.st.save(); err != nil {
			return err
		}
	}
	return b.st.sweep()
}

// knownBy is the ID of a backup whose catalogue is lost: a snapshot that one of its streams is of has it, or else one that was made
// for a backup in this place.
func (b *backupRun) knownBy(ours []repository.VolumeStat) (id repository.Key) {
	for _, v := range ours {
		said, err := repository.ParseKey(v.Keys[keyBackup])
		if err != nil {
			continue
		}
		if b.st.find(v.Key) != nil {
			return said
		}
		if v.Keys[keyDirectory] == b.dir {
			id = said
		}
	}
	return id
}

// mayBegin refuses to begin where a backup was once, and nothing is: a disk that is not mounted leaves an empty directory.
func (b *backupRun) mayBegin(ours []repository.VolumeStat, full bool) error {
	for _, v := range ours {
		if v.Keys[keyDirectory] == b.dir && !full {
			os.Remove(b.st.dir) // if nothing is in it
			return fault.Hint(fmt.Errorf("%s has no backup of volume %s, though snapshot %s was made for one there", b.dir, b.v.Key, v.Key),
				"mount what it was on; or begin another there with --full, and destroy that snapshot if its backup is no more")
		}
	}
	return nil
}

// srUUID is what the catalogue calls an SR.
func srUUID(ctx context.Context, sr repository.SR) (string, error) {
	known, err := repository.KnownSRs(ctx)
	for _, k := range known {
		if k.SR == sr {
			return k.UUID, nil
		}
	}
	return "", fmt.Errorf("the UUID of the SR %s cannot be told: %w", sr, cmp.Or(err, fault.ErrNotAttached))
}
