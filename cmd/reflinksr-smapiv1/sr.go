package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
	"reflinksr/internal/smapiv1"
)

// create makes an SR where there is none.
func create(ctx context.Context, n repository.NewSR) error {
	probed := map[string]string{}
	for key, value := range n.Configuration {
		if key != "sr_uuid" {
			probed[key] = value
		}
	}
	found, err := repository.Probe(ctx, probed)
	for _, f := range found {
		if err == nil && f.SR != nil {
			return fault.Hint(fault.Errorf(fault.ErrSRExists, n.UUID, "there is SR %s already, %q", f.SR.UUID, fault.Shorten(f.SR.Name)), "attach that one, or say another place")
		}
	}
	// What a look fails for, creation does as well, and says so.
	_, err = repository.Create(ctx, n)
	return err
}

func srCreate(ctx context.Context, c *call) (any, error) {
	conf, err := c.config()
	if err != nil {
		return nil, err
	}
	n := repository.NewSR{UUID: strings.ToLower(c.SRUUID), Configuration: conf}
	if c.xapi != nil {
		if n.Name, err = c.xapi.Text(ctx, "SR.get_name_label", c.SRRef); err != nil {
			return nil, err
		}
		if n.Description, err = c.xapi.Text(ctx, "SR.get_name_description", c.SRRef); err != nil {
			return nil, err
		}
	}
	return nil, create(ctx, n)
}

// destroy removes an SR without disks, attached or not, which then is not attached. One that is not there is destroyed already.
func destroy(ctx context.Context, uuid string, conf map[string]string) error {
	sr, err := attachedSR(ctx, uuid)
	attached := err == nil
	if errors.Is(err, fault.ErrNotAttached) && !isElsewise(ctx, uuid) {
		if sr, err = repository.AttachBy(ctx, repository.SMAPIv1, conf); errors.Is(err, fault.ErrSRNotFound) {
			return nil
		}
	}
	if err != nil {
		return err
	}
	err = sr.DestroyEmpty(ctx)
	if err == nil || !attached {
		err = errors.Join(err, sr.Detach(ctx))
	}
	return err
}

// isElsewise says whether this host has the SR attached by the other interface.
func isElsewise(ctx context.Context, uuid string) bool {
	known, err := repository.KnownSRs(ctx)
	for _, k := range known {
		if k.UUID == strings.ToLower(uuid) && k.Interface != repository.SMAPIv1 {
			return true
		}
	}
	return err != nil
}

func srDelete(ctx context.Context, c *call) (any, error) {
	conf, err := c.config()
	if err != nil {
		return nil, err
	}
	return nil, destroy(ctx, c.SRUUID, conf)
}

// srAttach attaches the SR. Where this host is the master of its pool the database gets to know what is in it: xapi does not ask for that
// itself. What fails of it the next scan does.
func srAttach(ctx context.Context, c *call) (any, error) {
	conf, err := c.config()
	if err != nil {
		return nil, err
	}
	sr, err := repository.AttachBy(ctx, repository.SMAPIv1, conf)
	if err == nil && c.xapi != nil && c.Master {
		if err := c.synchronize(ctx, sr); err != nil {
			slog.Warn("the database knows what is in the SR after the next scan", "sr", c.SRUUID, "err", err)
		}
	}
	return nil, err
}

// detach forgets an SR on this host; one that is not attached is detached.
func detach(ctx context.Context, uuid string) error {
	sr, err := attachedSR(ctx, uuid)
	if errors.Is(err, fault.ErrNotAttached) && !isElsewise(ctx, uuid) {
		return nil
	}
	if err != nil {
		return err
	}
	return sr.Detach(ctx)
}

func srDetach(ctx context.Context, c *call) (any, error) { return nil, detach(ctx, c.SRUUID) }

func srScan(ctx context.Context, c *call) (any, error) {
	sr, err := c.sr(ctx)
	if err != nil {
		return nil, err
	}
	if c.xapi == nil {
		_, err := contents(ctx, sr)
		return nil, err
	}
	return nil, c.synchronize(ctx, sr)
}

func srUpdate(ctx context.Context, c *call) (any, error) {
	sr, err := c.sr(ctx)
	if err != nil {
		return nil, err
	}
	found, err := contents(ctx, sr)
	if err != nil {
		return nil, err
	}
	return nil, c.tellSizes(ctx, found)
}

// contents lists the disks of an SR, with its sizes. An SR that is not there is an error: it must not look empty.
func contents(ctx context.Context, sr repository.SR) (smapiv1.Contents, error) {
	st, err := sr.Stat(ctx)
	if err != nil {
		return smapiv1.Contents{}, err
	}
	if st.Health[0] != repository.Healthy {
		return smapiv1.Contents{}, fault.Errorf(fault.ErrUnavailable, st.UUID, "SR %s: %s", st.UUID, st.Health[1])
	}
	all, err := sr.List(ctx)
	if err != nil {
		return smapiv1.Contents{}, err
	}
	c := smapiv1.Contents{UUID: st.UUID, Label: st.Name, Description: st.Description, Size: st.TotalSpace, Used: st.TotalSpace - st.FreeSpace}
	for _, v := range all {
		c.Utilisation += v.PhysicalUtilisation
		c.Allocation += v.VirtualSize
		c.Disks = append(c.Disks, smapiv1.ContentsDisk{
			UUID: v.UUID, Label: v.Name, Description: v.Description, Size: v.VirtualSize, Utilisation: v.PhysicalUtilisation, Shareable: v.Sharable, ReadOnly: !v.ReadWrite,
		})
	}
	// What is shared is there once, whatever each disk counts of it.
	c.Utilisation = min(c.Utilisation, c.Used)
	return c, nil
}

// srProbe lists the SRs that are where the device configuration says. Without a place it says which there are.
func srProbe(ctx context.Context, c *call) (any, error) {
	conf, err := configuration("Reflink", c.DeviceConfig, "")
	if err != nil && !errors.Is(err, smapiv1.ErrMissing) {
		return nil, err
	}
	if errors.Is(err, smapiv1.ErrMissing) {
		places, e := repository.Probe(ctx, map[string]string{})
		if e != nil {
			return nil, e
		}
		var all []string
		for _, p := range places {
			for _, key := range []string{"device", "path"} {
				if p.Configuration[key] != "" {
					all = append(all, key+"="+p.Configuration[key])
				}
			}
		}
		if len(all) > 0 {
			err = fault.Hint(err, "there are %s", strings.Join(all, ", "))
		}
		return nil, err
	}
	found, err := repository.Probe(ctx, conf)
	if err != nil {
		return nil, err
	}
	var list []smapiv1.Probed
	for _, f := range found {
		if f.SR != nil {
			list = append(list, smapiv1.Probed{UUID: f.SR.UUID, Size: f.SR.TotalSpace, Keys: f.Configuration})
		}
	}
	return smapiv1.SRList(list), nil
}
