package main

import (
	"context"

	"reflinksr/cmd/internal/version"
	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
	"reflinksr/internal/smapiv1"
)

// commands are those of the form of today.
var commands = map[string]command{
	"sr_get_driver_info": func(context.Context, *call) (any, error) { return driver().Answer(), nil },
	"sr_create":          srCreate,
	"sr_delete":          srDelete,
	"sr_attach":          srAttach,
	"sr_detach":          srDetach,
	"sr_scan":            srScan,
	"sr_update":          srUpdate,
	"sr_probe":           srProbe,
	"sr_content_type":    func(context.Context, *call) (any, error) { return contentType, nil },

	"vdi_create":        vdiCreate,
	"vdi_delete":        vdiDelete,
	"vdi_introduce":     vdiIntroduce,
	"vdi_update":        vdiUpdate,
	"vdi_snapshot":      vdiSnapshot,
	"vdi_clone":         vdiClone,
	"vdi_resize":        vdiResize,
	"vdi_resize_online": vdiResize, // what xapi asked for formerly
	"vdi_revert":        vdiRevert,
	"vdi_compose":       vdiCompose,
	"vdi_attach":        vdiAttach,
	"vdi_detach":        onDatapath(func(ctx context.Context, d repository.Datapath) error { return d.Detach(ctx, repository.SMAPIv1) }),
	"vdi_activate":      vdiActivate,
	"vdi_deactivate":    onDatapath(func(ctx context.Context, d repository.Datapath) error { return d.Deactivate(ctx, repository.SMAPIv1) }),

	// xapi has these at every boot of a guest, whatever a driver says that it can.
	"vdi_epoch_begin": vdiEpoch,
	"vdi_epoch_end":   vdiEpoch,

	"vdi_enable_cbt":          onDisk(func(ctx context.Context, v repository.Volume) error { return v.EnableCBT(ctx) }),
	"vdi_disable_cbt":         onDisk(func(ctx context.Context, v repository.Volume) error { return v.DisableCBT(ctx) }),
	"vdi_data_destroy":        onDisk(func(ctx context.Context, v repository.Volume) error { return v.DestroyData(ctx) }),
	"vdi_list_changed_blocks": vdiChangedBlocks,

	"vdi_generate_config":    vdiGenerateConfig,
	"vdi_attach_from_config": vdiAttachFromConfig,
	"vdi_detach_from_config": vdiDetachFromConfig,
}

// contentType is the driver of block devices that disks are for: they are block devices already.
const contentType = "phy"

// capabilities are what xapi takes from the driver: what follows from the commands, and what holds of their disks. What it needs tapdisk for
// (mirrors), and disks that forget on every host at once (VDI_RESET_ON_BOOT), are not among them.
var capabilities = []string{
	"SR_PROBE", "SR_UPDATE", "VDI_CREATE", "VDI_DELETE", "VDI_ATTACH", "VDI_DETACH", "VDI_ACTIVATE", "VDI_DEACTIVATE", "VDI_CLONE", "VDI_SNAPSHOT", "VDI_RESIZE", "VDI_RESIZE_ONLINE",
	"VDI_INTRODUCE", "VDI_UPDATE", "VDI_GENERATE_CONFIG", "VDI_ATTACH_OFFLINE", "VDI_CONFIG_CBT", "VDI_COMPOSE", "VDI_REVERT", "LARGE_VDI", "THIN_PROVISIONING",
}

func driver() smapiv1.Driver {
	keys := map[string]string{"location": "the same as path"}
	for key, about := range repository.Configuration() {
		if key != "sr_uuid" {
			keys[key] = about
		}
	}
	return smapiv1.Driver{
		Name: "Reflink", Description: "Disks as raw files on XFS or btrfs; snapshots and clones share blocks (reflink)", Vendor: "the reflinksr project", Copyright: "Apache-2.0",
		Version: version.Version, Capabilities: capabilities, Configuration: keys,
	}
}

// onDisk is a command that does one thing to a disk.
func onDisk(do func(context.Context, repository.Volume) error) command {
	return func(ctx context.Context, c *call) (any, error) {
		v, err := c.disk(ctx)
		if err != nil {
			return nil, err
		}
		return nil, do(ctx, v)
	}
}

// onDatapath is a command that does one thing on the way of a disk to a guest.
func onDatapath(do func(context.Context, repository.Datapath) error) command {
	return func(ctx context.Context, c *call) (any, error) {
		d, err := c.datapath(ctx)
		if err != nil {
			return nil, err
		}
		return nil, do(ctx, d)
	}
}

func vdiEpoch(ctx context.Context, c *call) (any, error) {
	if _, err := c.disk(ctx); err != nil {
		return nil, err
	}
	if c.OnBoot == "reset" {
		return nil, fault.Errorf(smapiv1.ErrUnimplemented, c.Command, "disk %s is to be reset when its guest boots, which this driver cannot do", c.VDIUUID)
	}
	return nil, nil
}

func vdiChangedBlocks(ctx context.Context, c *call) (any, error) {
	from, err := c.disk(ctx)
	if err != nil {
		return nil, err
	}
	to, _, err := c.other(ctx, "the later disk")
	if err != nil {
		return nil, err
	}
	changed, err := from.ListChangedBlocks(ctx, to.Key, 0, -1)
	if err != nil {
		return nil, err
	}
	return changed.Bitmap, nil
}
