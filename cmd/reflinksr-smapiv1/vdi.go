package main

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
	"reflinksr/internal/smapiv1"
	"reflinksr/internal/smapiv1/xenapi"
)

// newKey is the key that a caller wants for a new disk: "" for none in particular.
func newKey(text string) (repository.Key, error) {
	if text == "" {
		return "", nil
	}
	key, err := repository.ParseKey(strings.ToLower(text))
	if err != nil {
		return "", fault.Errorf(fault.ErrInvalid, "uuid", "the UUID for the new disk is %q, which is none", fault.Shorten(text))
	}
	return key, nil
}

func vdiCreate(ctx context.Context, c *call) (any, error) {
	sr, err := c.sr(ctx)
	if err != nil {
		return nil, err
	}
	text, err := c.Arg(0, "the size")
	if err != nil {
		return nil, err
	}
	n := repository.NewVolume{Name: c.Optional(1), Description: c.Optional(2), Keys: map[string]string{}}
	if n.Size, err = smapiv1.ParseSize("the size", text); err != nil {
		return nil, err
	}
	if n.Key, err = newKey(c.VDIUUID); err != nil {
		return nil, err
	}
	if c.Type != "" {
		n.Keys[keyType] = c.Type
	}
	n.Sharable = c.SMConfig["sharable"] == "true"
	v, err := sr.Create(ctx, n)
	if err != nil {
		return nil, err
	}
	r := c.row(v)
	maps.Copy(r.SMConfig, c.SMConfig)
	r.SMConfig[backendKind] = blkback
	r.ReadOnly = c.Optional(7) == "true"
	if pool := c.Optional(3); strings.HasPrefix(pool, "OpaqueRef:") {
		r.MetadataOfPool = pool
	}
	return c.made(ctx, repository.Volume{SR: sr, Key: v.Key}, r)
}

// made tells the database of a new disk. If that fails there is none.
func (c *call) made(ctx context.Context, v repository.Volume, r xenapi.VDI) (any, error) {
	if c.xapi != nil {
		if _, err := c.xapi.Introduce(ctx, r); err != nil {
			return nil, errors.Join(err, v.Destroy(ctx))
		}
	}
	return smapiv1.Disk(string(v.Key)), nil
}

func vdiDelete(ctx context.Context, c *call) (any, error) {
	v, err := c.disk(ctx)
	if err != nil {
		return nil, err
	}
	if err := v.Destroy(ctx); err != nil || c.xapi == nil || c.VDIRef == "" {
		return nil, err
	}
	return nil, c.xapi.Forget(ctx, c.VDIRef)
}

func vdiIntroduce(ctx context.Context, c *call) (any, error) {
	v, err := c.disk(ctx)
	if err != nil {
		return nil, err
	}
	if c.NewUUID != "" && !strings.EqualFold(c.NewUUID, string(v.Key)) {
		return nil, fault.Hint(fault.Errorf(fault.ErrInvalid, "uuid", "disk %s cannot be known by another UUID, %s", v.Key, fault.Shorten(c.NewUUID)), "introduce it with its own")
	}
	st, err := v.Stat(ctx)
	if err != nil {
		return nil, err
	}
	if c.xapi != nil {
		r := c.row(st)
		maps.Copy(r.SMConfig, c.SMConfig)
		r.SMConfig[backendKind] = blkback
		if _, err := c.xapi.Introduce(ctx, r); err != nil {
			return nil, err
		}
	}
	return smapiv1.Disk(string(v.Key)), nil
}

// vdiUpdate writes down with the disk what the database has of it, for a database that is lost, and tells that its sizes.
func vdiUpdate(ctx context.Context, c *call) (any, error) {
	v, err := c.disk(ctx)
	if err != nil {
		return nil, err
	}
	st, err := v.Stat(ctx)
	if err != nil || c.xapi == nil {
		return nil, err
	}
	r, err := c.xapi.VDI(ctx, c.VDIRef)
	if err != nil {
		return nil, err
	}
	if r.Name != st.Name {
		if err := v.SetName(ctx, r.Name); err != nil {
			return nil, err
		}
	}
	if r.Description != st.Description {
		if err := v.SetDescription(ctx, r.Description); err != nil {
			return nil, err
		}
	}
	keys := map[string]string{keyType: r.Type, keySnapshot: map[bool]string{true: "true"}[r.Snapshot]}
	if r.Snapshot {
		keys[keyTime] = r.SnapshotTime
		if r.SnapshotOf != "" && r.SnapshotOf != xenapi.Null {
			switch of, err := c.xapi.Text(ctx, "VDI.get_uuid", r.SnapshotOf); {
			case err == nil:
				keys[keyOf] = of
			case !xenapi.Is(err, xenapi.HandleInvalid):
				return nil, err
			}
		}
	}
	for key, value := range keys {
		if value == "" || value == st.Keys[key] {
			continue
		}
		if err := v.Set(ctx, key, value); err != nil {
			return nil, err
		}
	}
	return nil, c.refresh(ctx, r, st)
}

// derive makes a disk of another, and tells the database of it.
func (c *call) derive(ctx context.Context, how func(repository.Volume, repository.Label) (repository.VolumeStat, error)) (any, error) {
	v, err := c.disk(ctx)
	if err != nil {
		return nil, err
	}
	st, err := v.Stat(ctx)
	if err != nil {
		return nil, err
	}
	label := repository.Label{Name: st.Name, Description: st.Description, Keys: map[string]string{}}
	if st.Keys[keyType] != "" {
		label.Keys[keyType] = st.Keys[keyType]
	}
	made, err := how(v, label)
	if err != nil {
		return nil, err
	}
	r := c.row(made)
	if !made.ReadWrite {
		r.Snapshot, r.SnapshotOf, r.SnapshotTime = true, c.VDIRef, rowTime(time.Now())
	}
	return c.made(ctx, repository.Volume{SR: v.SR, Key: made.Key}, r)
}

func vdiSnapshot(ctx context.Context, c *call) (any, error) {
	return c.derive(ctx, func(v repository.Volume, l repository.Label) (repository.VolumeStat, error) {
		return v.SnapshotAs(ctx, l)
	})
}

func vdiClone(ctx context.Context, c *call) (any, error) {
	return c.derive(ctx, func(v repository.Volume, l repository.Label) (repository.VolumeStat, error) { return v.CloneAs(ctx, l) })
}

func vdiResize(ctx context.Context, c *call) (any, error) {
	v, err := c.disk(ctx)
	if err != nil {
		return nil, err
	}
	text, err := c.Arg(0, "the new size")
	if err != nil {
		return nil, err
	}
	size, err := smapiv1.ParseSize("the new size", text)
	if err != nil {
		return nil, err
	}
	if err := v.Resize(ctx, size); err != nil {
		return nil, err
	}
	st, err := v.Stat(ctx)
	if err == nil && c.xapi != nil {
		r, e := c.xapi.VDI(ctx, c.VDIRef)
		if err = e; err == nil {
			err = c.refresh(ctx, r, st)
		}
	}
	if err != nil {
		return nil, err
	}
	return smapiv1.Disk(string(v.Key)), nil
}

// vdiRevert is about the snapshot, and the disk that it is to be put back into.
func vdiRevert(ctx context.Context, c *call) (any, error) {
	snapshot, err := c.disk(ctx)
	if err != nil {
		return nil, err
	}
	v, ref, err := c.other(ctx, "the disk that is reverted")
	if err != nil {
		return nil, err
	}
	if err := v.Revert(ctx, snapshot.Key); err != nil || c.xapi == nil {
		return nil, err
	}
	st, err := v.Stat(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.xapi.VDI(ctx, ref)
	if err != nil {
		return nil, err
	}
	return nil, c.refresh(ctx, r, st)
}

// vdiCompose is about the disk with what was written last, and the one over which that is laid, which is gone then: the next scan forgets
// its row.
func vdiCompose(ctx context.Context, c *call) (any, error) {
	v, err := c.disk(ctx)
	if err != nil {
		return nil, err
	}
	parent, ref, err := c.other(ctx, "the disk below")
	if err != nil {
		return nil, err
	}
	if err := v.Compose(ctx, parent.Key); err != nil || c.xapi == nil {
		return nil, err
	}
	_, err = c.xapi.Call(ctx, "VDI.set_managed", ref, false)
	if xenapi.Is(err, xenapi.HandleInvalid) {
		err = nil
	}
	return nil, err
}
