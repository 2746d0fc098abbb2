package repository

import (
	"context"
	"time"

	"reflinksr/volume"
)

// Converted is a disk of another kind of SR that becomes a volume of this one, with the key that it has there, or what several of
// them have in common, which is none.
type Converted struct {
	Key   Key
	Size  int64  // bytes
	Stamp string // tells what it is made of

	Base       bool  // it becomes no volume
	Parent     Key   // it begins as that, which was converted before: "" as zeros
	ParentBase bool  // that is a base
	ParentSize int64 // bytes

	Name, Description string
	Sharable          bool
	Snapshot          bool // it is read-only
	Of                Key  // what it is a snapshot of: "" if that is not known
	At                time.Time
	Keys              map[string]string // as the toolstack notes them
}

// Patch takes what a converted disk has of its own.
type Patch = volume.Patch

// Reading reads what a converted disk holds.
type Reading = volume.Reading

// guestSector is the sector that a guest has seen on the disks of all other SRs, in bytes: with another it cannot read them.
const guestSector = 512

// Convert makes a volume or a base of what give gives, once check has found it there. If one of them fails nothing is left behind.
func (s SR) Convert(ctx context.Context, c Converted, give func(Patch) error, check func(Reading, int64) error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	made := volume.Converted{Key: c.Key, Size: c.Size, Stamp: c.Stamp, Parent: c.Parent, ParentBase: c.ParentBase, ParentSize: c.ParentSize}
	if !c.Base {
		made.Record = &volume.Record{Name: c.Name, Description: c.Description, ReadWrite: !c.Snapshot, Sharable: c.Sharable, SectorSize: guestSector, Keys: c.Keys}
		if c.Of != "" {
			made.Record.Origin = &volume.Origin{Kind: volume.Snapshot, Of: c.Of, At: c.At.UTC().Truncate(time.Second)}
		}
	}
	return volume.Convert(string(s), made, give, check)
}

// IsConverted says whether the volume or the base is there, and whether it is for certain what was made with that stamp.
func (s SR) IsConverted(_ context.Context, c Converted) (there, same bool, err error) {
	return volume.IsConverted(string(s), c.Key, c.Base, c.Stamp)
}

// CheckConverted has check read a volume that is there and that nobody has: if it is satisfied, IsConverted knows.
func (s SR) CheckConverted(_ context.Context, c Converted, check func(Reading, int64) error) error {
	return volume.CheckIdle(string(s), c.Key, c.Size, c.Stamp, check)
}

// RemoveBase removes a base, if it is there.
func (s SR) RemoveBase(_ context.Context, key Key) error { return volume.RemoveBase(string(s), key) }

// Bases are the keys of what conversions that have not come to their end have left.
func (s SR) Bases(context.Context) ([]Key, error) { return volume.Bases(string(s)) }

// AbandonConversion removes these, and whatever else interrupted calls have left.
func (s SR) AbandonConversion(context.Context) error { return volume.AbandonConversion(string(s)) }
