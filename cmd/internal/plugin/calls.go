package plugin

import (
	"context"
	"log/slog"

	"reflinksr/datapath"
	"reflinksr/internal/attached"
	"reflinksr/internal/fault"
	"reflinksr/internal/probe"
	"reflinksr/internal/smapi"
	"reflinksr/internal/smapi/serve"
	"reflinksr/snapshot"
	"reflinksr/snapshot/cbt"
	"reflinksr/sr"
	"reflinksr/volume"
)

// volumeCalls is what the volume plugin answers, in the order of the interface.
func volumeCalls() []serve.Handler {
	return []serve.Handler{
		serve.On(func(context.Context, smapi.PluginQuery) (smapi.QueryResult, error) { return volumeQuery(), nil }),
		serve.On(func(context.Context, smapi.PluginLs) ([]string, error) { return attached.Handles() }),
		serve.On(func(context.Context, smapi.PluginDiagnostics) (string, error) { return diagnostics() }),

		serve.On(func(_ context.Context, r smapi.SRProbe) ([]smapi.ProbeResult, error) {
			return list(asProbeResult)(probe.SR(r.Configuration))
		}),
		serve.On(func(_ context.Context, r smapi.SRCreate) (map[string]string, error) {
			return sr.Create(r.UUID, r.Configuration, r.Name, r.Description)
		}),
		serve.On(func(_ context.Context, r smapi.SRAttach) (string, error) { return attach(r.Configuration) }),
		serve.Do(func(_ context.Context, r smapi.SRDetach) error { return datapath.DetachSR(r.SR) }),
		serve.Do(func(_ context.Context, r smapi.SRDestroy) error { return volume.DestroySR(r.SR) }),
		serve.On(func(_ context.Context, r smapi.SRStat) (smapi.SRStatus, error) {
			return as(asSRStatus)(sr.StatSR(r.SR, volume.Warning))
		}),
		serve.Do(func(_ context.Context, r smapi.SRSetName) error { return sr.SetName(r.SR, r.NewName) }),
		serve.Do(func(_ context.Context, r smapi.SRSetDescription) error {
			return sr.SetDescription(r.SR, r.NewDescription)
		}),
		serve.On(func(_ context.Context, r smapi.SRLs) ([]smapi.Volume, error) {
			return list(asVolume)(volume.List(r.SR))
		}),

		serve.On(func(_ context.Context, r smapi.VolumeCreate) (smapi.Volume, error) {
			return as(asVolume)(volume.Create(r.SR, r.Name, r.Description, r.Size, r.Sharable))
		}),
		serve.On(func(_ context.Context, r smapi.VolumeSnapshot) (smapi.Volume, error) {
			return as(asVolume)(snapshot.Snapshot(r.SR, r.Key))
		}),
		serve.On(func(_ context.Context, r smapi.VolumeClone) (smapi.Volume, error) {
			return as(asVolume)(snapshot.Clone(r.SR, r.Key))
		}),
		serve.On(func(_ context.Context, r smapi.VolumeCopy) (smapi.Volume, error) {
			return as(asVolume)(copyVolume(r.SR, r.Key, r.DestSR))
		}),
		serve.Do(func(_ context.Context, r smapi.VolumeDestroy) error { return cbt.Destroy(r.SR, r.Key) }),
		serve.Do(func(_ context.Context, r smapi.VolumeRevert) error { return snapshot.Revert(r.SR, r.Snapshot, r.Key) }),
		serve.Do(func(_ context.Context, r smapi.VolumeSetName) error { return volume.SetName(r.SR, r.Key, r.NewName) }),
		serve.Do(func(_ context.Context, r smapi.VolumeSetDescription) error {
			return volume.SetDescription(r.SR, r.Key, r.NewDescription)
		}),
		serve.Do(func(_ context.Context, r smapi.VolumeSet) error { return volume.Set(r.SR, r.Key, r.K, r.V) }),
		serve.Do(func(_ context.Context, r smapi.VolumeUnset) error { return volume.Unset(r.SR, r.Key, r.K) }),
		serve.Do(func(_ context.Context, r smapi.VolumeResize) error { return volume.Resize(r.SR, r.Key, r.NewSize) }),
		serve.On(func(_ context.Context, r smapi.VolumeStat) (smapi.Volume, error) {
			return as(asVolume)(volume.Stat(r.SR, r.Key))
		}),
		serve.On(func(_ context.Context, r smapi.VolumeCompare) (smapi.Blocklist, error) {
			return as(asBlocklist)(cbt.Compare(r.SR, r.Key, r.Key2))
		}),
		serve.On(func(_ context.Context, r smapi.VolumeSimilarContent) ([]string, error) {
			return list(asText)(cbt.SimilarContent(r.SR, r.Key))
		}),
		serve.Do(func(_ context.Context, r smapi.VolumeEnableCBT) error { return cbt.EnableCBT(r.SR, r.Key) }),
		serve.Do(func(_ context.Context, r smapi.VolumeDisableCBT) error { return cbt.DisableCBT(r.SR, r.Key) }),
		serve.Do(func(_ context.Context, r smapi.VolumeDataDestroy) error { return cbt.DestroyData(r.SR, r.Key) }),
		serve.On(func(_ context.Context, r smapi.VolumeListChangedBlocks) (smapi.ChangedBlocks, error) {
			return as(asChangedBlocks)(cbt.ListChangedBlocks(r.SR, r.Key, r.Key2, r.Offset, r.Length))
		}),
		serve.Do(func(_ context.Context, r smapi.VolumeCompose) error { return cbt.Compose(r.SR, r.Key, r.Key2) }),
	}
}

// datapathCalls is what the datapath plugin answers.
func datapathCalls() []serve.Handler {
	return []serve.Handler{
		serve.On(func(context.Context, smapi.PluginQuery) (smapi.QueryResult, error) { return datapathQuery(), nil }),
		serve.On(func(context.Context, smapi.PluginDiagnostics) (string, error) { return diagnostics() }),

		serve.Do(func(_ context.Context, r smapi.DatapathOpen) error { return datapath.Open(r.URI, r.Persistent) }),
		serve.On(func(_ context.Context, r smapi.DatapathAttach) (smapi.Backend, error) {
			return as(asBackend)(datapath.Attach(r.URI, r.Domain))
		}),
		serve.Do(func(_ context.Context, r smapi.DatapathActivate) error {
			return datapath.Activate(r.URI, r.Domain, false)
		}),
		serve.Do(func(_ context.Context, r smapi.DatapathActivateReadonly) error {
			return datapath.Activate(r.URI, r.Domain, true)
		}),
		serve.Do(func(_ context.Context, r smapi.DatapathDeactivate) error { return datapath.Deactivate(r.URI, r.Domain) }),
		serve.Do(func(_ context.Context, r smapi.DatapathDetach) error { return datapath.Detach(r.URI, r.Domain) }),
		serve.Do(func(_ context.Context, r smapi.DatapathClose) error { return datapath.Close(r.URI) }),
	}
}

// links are the names that a directory with these calls offers. Plugin.Query is what the
// toolstack's documentation calls Plugin.query.
func links(calls []serve.Handler) []string {
	names := []string{"Plugin.Query"}
	for _, c := range calls {
		names = append(names, c.Call())
	}
	return names
}

func attach(configuration map[string]string) (string, error) {
	handle, err := sr.Attach(configuration)
	if err != nil {
		return "", err
	}
	if err := datapath.Recover(handle); err != nil {
		// It is attached and usable; the next attach tries again.
		slog.Error("what guests of a former boot left could not all be removed", "sr", handle, "err", err)
	}
	if err := cbt.Recover(handle); err != nil {
		slog.Error("space of destroyed snapshots could not all be given back", "sr", handle, "err", err)
	}
	return handle, nil
}

// copyVolume answers Unimplemented where blocks cannot be shared: that is what
// makes the caller copy them itself.
func copyVolume(from, key, to string) (volume.Volume, error) {
	v, err := snapshot.Copy(from, key, to)
	if fault.Classify(err) == fault.ErrOtherFS {
		return v, fault.Errorf(serve.ErrUnimplemented, "Volume.copy", "%v", err)
	}
	return v, err
}
