package rig

import (
	"context"
	"encoding/json"
	"fmt"

	"reflinksr/internal/smapi"
	"reflinksr/internal/smapi/invoke"
)

// Command is the call of a request.
func (p Plugin) Command(r smapi.Request) invoke.Command {
	c, err := invoke.Plugin{Volume: p.Volume, Datapath: p.Datapath, Debug: "srcrash"}.Command(r)
	if err != nil {
		panic(err) // strings and numbers of our own
	}
	return c
}

// Call makes the call of a request as the toolstack does. out, unless nil, receives the answer.
// A refusal is a *smapi.Failure; a process that was killed is an *exec.ExitError.
func (p Plugin) Call(r smapi.Request, out any) error {
	return Judge(r.Call(), p.Command(r).Run(context.Background()), out)
}

// Judge makes of what a call printed, and of the way it ended, what Call returns.
func Judge(call string, printed *invoke.Output, out any) error {
	err := printed.Into(out)
	if err == nil {
		err = Silent(printed.Stderr.Bytes())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", call, err)
	}
	return nil
}

// Silent judges what a call wrote on standard error that has succeeded.
func Silent(stderr []byte) error {
	if len(stderr) > 0 {
		return fmt.Errorf("succeeded, and wrote on standard error: %.300q", stderr)
	}
	return nil
}

// Succeeded judges what a call that ended with 0 printed.
func Succeeded(call string, answer, stderr []byte) error {
	if !json.Valid(answer) {
		return fmt.Errorf("%s: answered what is no JSON: %.300q", call, answer)
	}
	if err := Silent(stderr); err != nil {
		return fmt.Errorf("%s: %w", call, err)
	}
	return nil
}

// OfSR is the request of a call that takes nothing but an SR.
func OfSR(call, sr string) smapi.Request {
	switch call {
	case "SR.detach":
		return smapi.SRDetach{SR: sr}
	case "SR.destroy":
		return smapi.SRDestroy{SR: sr}
	}
	panic(call + " is no call of an SR alone")
}

// OfVolume is the request of a call that takes nothing but a volume.
func OfVolume(call, sr, key string) smapi.Request {
	switch call {
	case "Volume.snapshot":
		return smapi.VolumeSnapshot{SR: sr, Key: key}
	case "Volume.clone":
		return smapi.VolumeClone{SR: sr, Key: key}
	case "Volume.stat":
		return smapi.VolumeStat{SR: sr, Key: key}
	case "Volume.destroy":
		return smapi.VolumeDestroy{SR: sr, Key: key}
	case "Volume.enable_cbt":
		return smapi.VolumeEnableCBT{SR: sr, Key: key}
	case "Volume.disable_cbt":
		return smapi.VolumeDisableCBT{SR: sr, Key: key}
	case "Volume.data_destroy":
		return smapi.VolumeDataDestroy{SR: sr, Key: key}
	}
	panic(call + " is no call of a volume alone")
}

// OfDatapath is the request of a call for a domain. Datapath.open and Datapath.close take none,
// and open asks for writes that last.
func OfDatapath(call, uri, domain string) smapi.Request {
	switch call {
	case "Datapath.open":
		return smapi.DatapathOpen{URI: uri, Persistent: true}
	case "Datapath.attach":
		return smapi.DatapathAttach{URI: uri, Domain: domain}
	case "Datapath.activate":
		return smapi.DatapathActivate{URI: uri, Domain: domain}
	case "Datapath.activate_readonly":
		return smapi.DatapathActivateReadonly{URI: uri, Domain: domain}
	case "Datapath.deactivate":
		return smapi.DatapathDeactivate{URI: uri, Domain: domain}
	case "Datapath.detach":
		return smapi.DatapathDetach{URI: uri, Domain: domain}
	case "Datapath.close":
		return smapi.DatapathClose{URI: uri}
	}
	panic(call + " is no call of a datapath")
}
