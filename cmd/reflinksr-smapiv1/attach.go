package main

import (
	"context"
	"errors"
	"strings"

	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
	"reflinksr/internal/smapiv1"
)

// static is the domain that has the disks which a host attaches where xapi does not run: those of high availability.
const static = repository.SMAPIv1 + "-static"

// vdiAttach makes the disk a block device. Whether it may be written to vdi_activate is told.
func vdiAttach(ctx context.Context, c *call) (any, error) {
	d, err := c.datapath(ctx)
	if err != nil {
		return nil, err
	}
	if c.OnBoot == "reset" {
		_, err := vdiEpoch(ctx, c)
		return nil, err
	}
	device, err := attach(ctx, d, repository.SMAPIv1)
	if err != nil {
		return nil, err
	}
	return smapiv1.Attached(device), nil
}

// attach makes a disk a block device for a domain, whose writes last.
func attach(ctx context.Context, d repository.Datapath, domain string) (device string, err error) {
	if err := d.Open(ctx, true); err != nil {
		return "", err
	}
	paths, err := d.Attach(ctx, domain)
	return paths.Device, err
}

func vdiActivate(ctx context.Context, c *call) (any, error) {
	d, err := c.datapath(ctx)
	if err != nil {
		return nil, err
	}
	return nil, d.Activate(ctx, repository.SMAPIv1, c.Optional(0) == "false")
}

// vdiGenerateConfig is the request by which a host attaches the disk where xapi does not run.
func vdiGenerateConfig(ctx context.Context, c *call) (any, error) {
	v, err := c.disk(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := v.Stat(ctx); err != nil {
		return nil, err
	}
	return smapiv1.FromConfig("vdi_attach_from_config", c.SRUUID, string(v.Key), c.DeviceConfig), nil
}

func vdiAttachFromConfig(ctx context.Context, c *call) (any, error) {
	conf, err := c.config()
	if err != nil {
		return nil, err
	}
	if _, err := repository.AttachBy(ctx, repository.SMAPIv1, conf); err != nil {
		return nil, err
	}
	d, err := c.datapath(ctx)
	if err != nil {
		return nil, err
	}
	device, err := attach(ctx, d, static)
	if err != nil {
		return nil, err
	}
	if err := d.Activate(ctx, static, c.Optional(0) == "false"); err != nil {
		return nil, errors.Join(err, d.Detach(ctx, static))
	}
	return smapiv1.AttachedFromConfig(device), nil
}

func vdiDetachFromConfig(ctx context.Context, c *call) (any, error) {
	d, err := c.datapath(ctx)
	if errors.Is(err, fault.ErrNotAttached) && !isElsewise(ctx, strings.ToLower(c.SRUUID)) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := d.Deactivate(ctx, static); err != nil {
		return nil, err
	}
	return nil, d.Detach(ctx, static)
}
