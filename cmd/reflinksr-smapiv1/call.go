package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
	"reflinksr/internal/smapiv1"
	"reflinksr/internal/smapiv1/xenapi"
)

// call is a request of xapi that is being carried out.
type call struct {
	*smapiv1.Request
	xapi *xenapi.Client // nil where there is no session: then the SR alone is changed
}

// command carries a request out. A nil answer is one as well.
type command func(ctx context.Context, c *call) (any, error)

// carryOut finds the command and carries it out.
func carryOut(ctx context.Context, r *smapiv1.Request) (any, error) {
	do, known := commands[r.Command]
	if !known {
		return nil, fault.Errorf(smapiv1.ErrUnimplemented, r.Command, "there is no command %q", fault.Shorten(r.Command))
	}
	c := &call{Request: r}
	if r.SessionRef != "" {
		c.xapi = &xenapi.Client{Socket: xapiSocket(), Session: r.SessionRef, Task: r.Task}
	}
	return do(ctx, c)
}

// drivers are the kinds of drivers by their names, with the keys by which each says where its SR is. The first is ours: any of them.
var drivers = map[string][]string{
	"Reflink": {"path", "device", "server"},
	"File":    {"path"},
	"Ext":     {"device"},
	"Nfs":     {"server"},
}

// formerKeys are what keys of a device configuration are called here.
var formerKeys = map[string]string{"location": "path", "Serverpath": "serverpath"}

// configuration is the configuration of an SR that a device configuration means, for a kind of driver.
func configuration(driver string, device map[string]string, uuid string) (map[string]string, error) {
	conf := map[string]string{}
	for key, value := range device {
		if former, is := formerKeys[key]; is {
			if _, both := device[former]; both {
				return nil, fault.Errorf(fault.ErrInvalid, key, "the device configuration has both %s and %s, which are the same", key, former)
			}
			key = former
		}
		conf[key] = value
	}
	delete(conf, "SRmaster")
	where, known := drivers[driver]
	if !known {
		return nil, fault.Errorf(smapiv1.ErrUnimplemented, driver, "there is no driver %q", fault.Shorten(driver+"SR"))
	}
	if !slices.ContainsFunc(where, func(key string) bool { return conf[key] != "" }) {
		return nil, missingKey(where, conf)
	}
	if conf["server"] != "" && conf["serverpath"] == "" {
		return nil, fault.Errorf(smapiv1.ErrMissing, "serverpath", "the device configuration has no serverpath: the absolute path of the export on %s", fault.Shorten(conf["server"]))
	}
	if uuid != "" {
		conf["sr_uuid"] = uuid
	}
	return conf, nil
}

// missingKey is the error for a device configuration that does not say where the SR is.
func missingKey(where []string, conf map[string]string) error {
	item := where[0]
	switch {
	case len(where) > 1 && conf["serverpath"] != "":
		item = "server"
	case len(where) > 1:
		return fault.Errorf(smapiv1.ErrMissing, "", "the device configuration has neither device, nor location (or path), nor server and serverpath: one of them says where the SR is")
	case item == "path":
		item = "location"
	}
	return fault.Errorf(smapiv1.ErrMissing, item, "the device configuration has no %s, which says where the SR is", item)
}

// config is the configuration of the SR that the request is about.
func (c *call) config() (map[string]string, error) {
	return configuration("Reflink", c.DeviceConfig, strings.ToLower(c.SRUUID))
}

// attachedSR is the SR with that UUID, which must be attached by this interface.
func attachedSR(ctx context.Context, uuid string) (repository.SR, error) {
	uuid = strings.ToLower(uuid)
	known, err := repository.KnownSRs(ctx)
	if err != nil {
		return "", err
	}
	for _, k := range known {
		if k.UUID != uuid {
			continue
		}
		if k.Interface != repository.SMAPIv1 {
			return "", fault.Hint(fault.Errorf(fault.ErrNotAttached, k.UUID, "SR %s is attached on this host by SMAPIv3, and not by this interface", k.UUID), "detach it there first")
		}
		return k.SR, nil
	}
	return "", fault.Hint(fault.Errorf(fault.ErrNotAttached, uuid, "SR %q is not attached on this host", fault.Shorten(uuid)), "attach it first (sr_attach)")
}

func (c *call) sr(ctx context.Context) (repository.SR, error) { return attachedSR(ctx, c.SRUUID) }

// disk is the disk that the request is about.
func (c *call) disk(ctx context.Context) (repository.Volume, error) {
	sr, err := c.sr(ctx)
	if err != nil {
		return repository.Volume{}, err
	}
	name := c.VDILocation
	if name == "" {
		name = c.VDIUUID
	}
	return repository.ParseVolume(sr, strings.ToLower(name))
}

// datapath is the disk on its way to a guest.
func (c *call) datapath(ctx context.Context) (repository.Datapath, error) {
	v, err := c.disk(ctx)
	if err != nil {
		return "", err
	}
	return v.Datapath()
}

// other is the disk that the first argument names, which is a reference of xapi's.
func (c *call) other(ctx context.Context, what string) (repository.Volume, string, error) {
	ref, err := c.Arg(0, what)
	if err != nil {
		return repository.Volume{}, "", err
	}
	sr, err := c.sr(ctx)
	if err != nil {
		return repository.Volume{}, "", err
	}
	uuid := ref
	if c.xapi != nil {
		if uuid, err = c.xapi.Text(ctx, "VDI.get_location", ref); err != nil {
			return repository.Volume{}, "", fmt.Errorf("%s: %w", what, err)
		}
	}
	v, err := repository.ParseVolume(sr, strings.ToLower(uuid))
	return v, ref, err
}
