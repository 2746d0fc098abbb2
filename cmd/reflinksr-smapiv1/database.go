package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"reflinksr/internal/repository"
	"reflinksr/internal/smapiv1"
	"reflinksr/internal/smapiv1/xenapi"
)

// backendKind is a key of a row's sm_config that makes xapi give a guest the disk by xen-blkback: without it xapi takes the block device
// for tapdisk's.
const backendKind, blkback = "backend-kind", "vbd"

// Keys by which the newer interface keeps with a disk what the database has of it.
const (
	keyType, keySnapshot, keyOf, keyTime = "vdi-type", "is_a_snapshot", "snapshot_of", "snapshot_time"
)

// rowTime is a time as xapi writes it.
func rowTime(t time.Time) string { return t.UTC().Format("20060102T15:04:05Z") }

// row is what the database is to know of a disk.
func (c *call) row(v repository.VolumeStat) xenapi.VDI {
	r := xenapi.VDI{
		UUID: string(v.Key), Location: string(v.Key), Name: v.Name, Description: v.Description, SR: c.SRRef, Type: v.Keys[keyType], ReadOnly: !v.ReadWrite, Sharable: v.Sharable,
		Managed: true, Size: v.VirtualSize, Utilisation: v.PhysicalUtilisation, CBT: v.CBTEnabled, SMConfig: map[string]string{backendKind: blkback},
	}
	if r.Type == "" {
		r.Type = "user"
	}
	if v.VolumeType == repository.CBTMetadata {
		r.Type = "cbt_metadata"
	}
	return r
}

// synchronize makes the rows of the SR's disks what the SR says: new ones, those of disks that are gone, sizes. Names are the
// database's. A row of a disk that cannot be read stays as it is.
func (c *call) synchronize(ctx context.Context, sr repository.SR) error {
	found, err := contents(ctx, sr)
	if err != nil {
		return err
	}
	members, unread := sr.Family(ctx)
	rows, err := c.xapi.VDIs(ctx, c.SRRef)
	if err != nil {
		return err
	}
	refs, there := map[string]string{}, map[string]bool{}
	old := map[string]xenapi.VDI{}
	for _, r := range rows {
		refs[r.Location], old[r.Location] = r.Ref, r
	}
	for _, d := range found.Disks {
		there[d.UUID] = true
	}
	for _, snapshots := range []bool{false, true} { // what a snapshot is of has its row first
		for _, m := range members {
			if is, _, _ := snapshotOf(m); is != snapshots {
				continue
			}
			if r, has := old[string(m.Key)]; has {
				err = c.refresh(ctx, r, m.VolumeStat)
			} else {
				refs[string(m.Key)], err = c.introduce(ctx, m, refs)
			}
			if err != nil {
				return err
			}
			there[string(m.Key)] = true
		}
	}
	for location, r := range old {
		if !there[location] {
			if err := c.xapi.Forget(ctx, r.Ref); err != nil {
				return err
			}
		}
	}
	if err := c.tellSizes(ctx, found); err != nil {
		return err
	}
	if unread != nil {
		slog.Warn("what the database has of disks that cannot be read stays as it is", "sr", c.SRUUID, "err", unread)
	}
	return nil
}

// snapshotOf says whether a disk is a snapshot, of what, and since when.
func snapshotOf(m repository.Member) (is bool, of, at string) {
	if m.Keys[keySnapshot] != "" {
		return m.Keys[keySnapshot] == "true", m.Keys[keyOf], m.Keys[keyTime]
	}
	if m.Origin == nil || m.ReadWrite {
		return false, "", ""
	}
	return true, string(m.Origin.Of), rowTime(m.Origin.At)
}

func (c *call) introduce(ctx context.Context, m repository.Member, refs map[string]string) (ref string, err error) {
	r := c.row(m.VolumeStat)
	var of string
	r.Snapshot, of, r.SnapshotTime = snapshotOf(m)
	r.SnapshotOf = refs[of]
	return c.xapi.Introduce(ctx, r)
}

// refresh tells the database what has changed of a disk. A row that is gone meanwhile is no error.
func (c *call) refresh(ctx context.Context, r xenapi.VDI, v repository.VolumeStat) error {
	var changes []func() error
	set := func(differs bool, method string, value any) {
		if differs {
			changes = append(changes, func() error { _, err := c.xapi.Call(ctx, method, r.Ref, value); return err })
		}
	}
	set(r.Size != v.VirtualSize, "VDI.set_virtual_size", fmt.Sprint(v.VirtualSize))
	set(r.Utilisation != v.PhysicalUtilisation, "VDI.set_physical_utilisation", fmt.Sprint(v.PhysicalUtilisation))
	set(r.CBT != v.CBTEnabled, "VDI.set_cbt_enabled", v.CBTEnabled)
	set(!r.Managed, "VDI.set_managed", true)
	if r.SMConfig[backendKind] != blkback {
		changes = append(changes, func() error { return c.xapi.AddToSMConfig(ctx, r.Ref, backendKind, blkback) })
	}
	for _, change := range changes {
		if err := change(); xenapi.Is(err, xenapi.HandleInvalid) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// tellSizes tells the database the sizes of the SR.
func (c *call) tellSizes(ctx context.Context, found smapiv1.Contents) error {
	if c.xapi == nil {
		return nil
	}
	for _, size := range []struct {
		field string
		bytes int64
	}{{"virtual_allocation", found.Allocation}, {"physical_utilisation", found.Used}, {"physical_size", found.Size}} {
		if _, err := c.xapi.Call(ctx, "SR.set_"+size.field, c.SRRef, fmt.Sprint(size.bytes)); err != nil {
			return err
		}
	}
	return nil
}
