package plugin

import (
	"context"
	"slices"

	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
	"reflinksr/internal/smapi"
	"reflinksr/internal/smapi/serve"
)

// volumeCalls is what the volume plugin answers, in the order of the interface.
func volumeCalls() []serve.Handler {
	return []serve.Handler{
		serve.On(func(context.Context, smapi.PluginQuery) (smapi.QueryResult, error) { return volumeQuery(), nil }),
		serve.On(func(ctx context.Context, _ smapi.PluginLs) ([]string, error) {
			return list(asHandle)(repository.AttachedBy(ctx, ""))
		}),
		serve.On(func(ctx context.Context, _ smapi.PluginDiagnostics) (string, error) { return diagnostics(ctx) }),

		serve.On(func(ctx context.Context, r smapi.SRProbe) ([]smapi.ProbeResult, error) {
			return list(asProbeResult)(repository.Probe(ctx, r.Configuration))
		}),
		serve.On(func(ctx context.Context, r smapi.SRCreate) (map[string]string, error) {
			return repository.Create(ctx, repository.NewSR{UUID: r.UUID, Configuration: r.Configuration, Name: r.Name, Description: r.Description})
		}),
		serve.On(func(ctx context.Context, r smapi.SRAttach) (string, error) {
			return as(asHandle)(repository.Attach(ctx, r.Configuration))
		}),
		serve.Do(func(ctx context.Context, r smapi.SRDetach) error { return repository.SR(r.SR).Detach(ctx) }),
		serve.Do(func(ctx context.Context, r smapi.SRDestroy) error { return repository.SR(r.SR).Destroy(ctx) }),
		serve.On(func(ctx context.Context, r smapi.SRStat) (smapi.SRStatus, error) {
			return as(asSRStatus)(repository.SR(r.SR).Stat(ctx))
		}),
		serve.Do(func(ctx context.Context, r smapi.SRSetName) error {
			return repository.SR(r.SR).SetName(ctx, r.NewName)
		}),
		serve.Do(func(ctx context.Context, r smapi.SRSetDescription) error {
			return repository.SR(r.SR).SetDescription(ctx, r.NewDescription)
		}),
		serve.On(func(ctx context.Context, r smapi.SRLs) ([]smapi.Volume, error) {
			return list(asVolume)(repository.SR(r.SR).List(ctx))
		}),

		serve.On(func(ctx context.Context, r smapi.VolumeCreate) (smapi.Volume, error) {
			return as(asVolume)(repository.SR(r.SR).Create(ctx, repository.NewVolume{Name: r.Name, Description: r.Description, Size: r.Size, Sharable: r.Sharable}))
		}),
		serve.On(func(ctx context.Context, r smapi.VolumeSnapshot) (smapi.Volume, error) {
			return as(asVolume)(ask(r.SR, r.Key, func(v repository.Volume) (repository.VolumeStat, error) { return v.Snapshot(ctx) }))
		}),
		serve.On(func(ctx context.Context, r smapi.VolumeClone) (smapi.Volume, error) {
			return as(asVolume)(ask(r.SR, r.Key, func(v repository.Volume) (repository.VolumeStat, error) { return v.Clone(ctx) }))
		}),
		serve.On(func(ctx context.Context, r smapi.VolumeCopy) (smapi.Volume, error) {
			return as(asVolume)(ask(r.SR, r.Key, func(v repository.Volume) (repository.VolumeStat, error) {
				return copyTo(ctx, v, repository.SR(r.DestSR))
			}))
		}),
		serve.Do(func(ctx context.Context, r smapi.VolumeDestroy) error {
			return tell(r.SR, r.Key, func(v repository.Volume) error { return v.Destroy(ctx) })
		}),
		serve.Do(func(ctx context.Context, r smapi.VolumeRevert) error {
			snapshot, v, err := parseTwo(r.SR, r.Snapshot, r.Key)
			if err != nil {
				return err
			}
			return v.Revert(ctx, snapshot.Key)
		}),
		serve.Do(func(ctx context.Context, r smapi.VolumeSetName) error {
			return tell(r.SR, r.Key, func(v repository.Volume) error { return v.SetName(ctx, r.NewName) })
		}),
		serve.Do(func(ctx context.Context, r smapi.VolumeSetDescription) error {
			return tell(r.SR, r.Key, func(v repository.Volume) error {
				return v.SetDescription(ctx, r.NewDescription)
			})
		}),
		serve.Do(func(ctx context.Context, r smapi.VolumeSet) error {
			return tell(r.SR, r.Key, func(v repository.Volume) error { return v.Set(ctx, r.K, r.V) })
		}),
		serve.Do(func(ctx context.Context, r smapi.VolumeUnset) error {
			return tell(r.SR, r.Key, func(v repository.Volume) error { return v.Unset(ctx, r.K) })
		}),
		serve.Do(func(ctx context.Context, r smapi.VolumeResize) error {
			return tell(r.SR, r.Key, func(v repository.Volume) error { return v.Resize(ctx, r.NewSize) })
		}),
		serve.On(func(ctx context.Context, r smapi.VolumeStat) (smapi.Volume, error) {
			return as(asVolume)(ask(r.SR, r.Key, func(v repository.Volume) (repository.VolumeStat, error) { return v.Stat(ctx) }))
		}),
		serve.On(func(ctx context.Context, r smapi.VolumeCompare) (smapi.Blocklist, error) {
			return as(asBlocklist)(ask(r.SR, r.Key, func(v repository.Volume) (repository.BlockList, error) { return compare(ctx, v, r.Key2) }))
		}),
		serve.On(func(ctx context.Context, r smapi.VolumeSimilarContent) ([]string, error) {
			return list(asText)(ask(r.SR, r.Key, func(v repository.Volume) ([]repository.Key, error) { return v.SimilarContent(ctx) }))
		}),
		serve.Do(func(ctx context.Context, r smapi.VolumeEnableCBT) error {
			return tell(r.SR, r.Key, func(v repository.Volume) error { return v.EnableCBT(ctx) })
		}),
		serve.Do(func(ctx context.Context, r smapi.VolumeDisableCBT) error {
			return tell(r.SR, r.Key, func(v repository.Volume) error { return v.DisableCBT(ctx) })
		}),
		serve.Do(func(ctx context.Context, r smapi.VolumeDataDestroy) error {
			return tell(r.SR, r.Key, func(v repository.Volume) error { return v.DestroyData(ctx) })
		}),
		serve.On(func(ctx context.Context, r smapi.VolumeListChangedBlocks) (smapi.ChangedBlocks, error) {
			v, in, err := parseTwo(r.SR, r.Key, r.Key2)
			if err != nil {
				return smapi.ChangedBlocks{}, err
			}
			return as(asChangedBlocks)(v.ListChangedBlocks(ctx, in.Key, r.Offset, r.Length))
		}),
		serve.Do(func(ctx context.Context, r smapi.VolumeCompose) error {
			v, parent, err := parseTwo(r.SR, r.Key, r.Key2)
			if err != nil {
				return err
			}
			return v.Compose(ctx, parent.Key)
		}),
	}
}

// datapathCalls is what the datapath plugin answers.
func datapathCalls() []serve.Handler {
	return []serve.Handler{
		serve.On(func(context.Context, smapi.PluginQuery) (smapi.QueryResult, error) { return datapathQuery(), nil }),
		serve.On(func(ctx context.Context, _ smapi.PluginDiagnostics) (string, error) { return diagnostics(ctx) }),

		serve.Do(func(ctx context.Context, r smapi.DatapathOpen) error {
			return repository.Datapath(r.URI).Open(ctx, r.Persistent)
		}),
		serve.On(func(ctx context.Context, r smapi.DatapathAttach) (smapi.Backend, error) {
			return as(asBackend)(repository.Datapath(r.URI).Attach(ctx, r.Domain))
		}),
		serve.Do(func(ctx context.Context, r smapi.DatapathActivate) error {
			return repository.Datapath(r.URI).Activate(ctx, r.Domain, false)
		}),
		serve.Do(func(ctx context.Context, r smapi.DatapathActivateReadonly) error {
			return repository.Datapath(r.URI).Activate(ctx, r.Domain, true)
		}),
		serve.Do(func(ctx context.Context, r smapi.DatapathDeactivate) error {
			return repository.Datapath(r.URI).Deactivate(ctx, r.Domain)
		}),
		serve.Do(func(ctx context.Context, r smapi.DatapathDetach) error {
			return repository.Datapath(r.URI).Detach(ctx, r.Domain)
		}),
		serve.On(func(ctx context.Context, r smapi.DatapathImportActivate) (string, error) {
			return repository.Datapath(r.URI).ImportActivate(ctx, r.Domain)
		}),
		serve.Do(func(ctx context.Context, r smapi.DatapathClose) error { return repository.Datapath(r.URI).Close(ctx) }),

		serve.On(func(ctx context.Context, r smapi.DataMirror) (smapi.Operation, error) {
			return as(asOperation)(repository.Datapath(r.URI).Mirror(ctx, r.Domain, r.Remote))
		}),
		serve.On(func(ctx context.Context, r smapi.DataStat) (smapi.Status, error) {
			id, err := mirrorIn(r.Operation)
			if err != nil {
				return smapi.Status{}, err
			}
			return as(asMirrorStatus)(repository.MirrorOf(ctx, id))
		}),
		serve.Do(func(ctx context.Context, r smapi.DataCancel) error {
			id, err := mirrorIn(r.Operation)
			if err != nil {
				return err
			}
			return repository.CancelMirror(ctx, id)
		}),
		serve.Do(func(ctx context.Context, r smapi.DataDestroy) error {
			id, err := mirrorIn(r.Operation)
			if err != nil {
				return err
			}
			return repository.ForgetMirror(ctx, id)
		}),
		serve.On(func(ctx context.Context, _ smapi.DataLs) ([]smapi.Operation, error) {
			return list(func(m repository.MirrorState) smapi.Operation { return asOperation(m.ID) })(repository.Mirrors(ctx))
		}),
	}
}

// mirrorIn is the mirror that an operation is: copies are not made here.
func mirrorIn(o smapi.Operation) (id string, err error) {
	if o.MirrorV1 == nil {
		return "", fault.Errorf(fault.ErrInvalid, "operation", "the operation is no mirror: this plugin begins nothing else")
	}
	return *o.MirrorV1, nil
}

// moving are the calls for which another program is needed.
var moving = []string{
	smapi.DatapathImportActivate{}.Call(), smapi.DataMirror{}.Call(), smapi.DataStat{}.Call(), smapi.DataCancel{}.Call(), smapi.DataDestroy{}.Call(), smapi.DataLs{}.Call(),
}

// links are the names that a directory with these calls offers. Plugin.Query is what the
// toolstack's documentation calls Plugin.query. Without the program that serves disks and mirrors them none is moved.
func links(calls []serve.Handler, server bool) []string {
	names := []string{"Plugin.Query"}
	for _, c := range calls {
		if server || !slices.Contains(moving, c.Call()) {
			names = append(names, c.Call())
		}
	}
	return names
}

// ask is the answer of the volume that a request names.
func ask[T any](sr, key string, question func(repository.Volume) (T, error)) (T, error) {
	v, err := repository.ParseVolume(repository.SR(sr), key)
	if err != nil {
		var none T
		return none, err
	}
	return question(v)
}

// tell is ask where there is no answer.
func tell(sr, key string, order func(repository.Volume) error) error {
	v, err := repository.ParseVolume(repository.SR(sr), key)
	if err != nil {
		return err
	}
	return order(v)
}

// parseTwo are the two volumes that a request names.
func parseTwo(sr, key, other string) (a, b repository.Volume, err error) {
	if a, err = repository.ParseVolume(repository.SR(sr), key); err == nil {
		b, err = repository.ParseVolume(repository.SR(sr), other)
	}
	return a, b, err
}

// compare compares with the volume that a text names: of one that names none, with nothing.
func compare(ctx context.Context, v repository.Volume, text string) (repository.BlockList, error) {
	with, err := repository.ParseKey(text)
	if err != nil {
		with = ""
	}
	return v.Compare(ctx, with)
}

// copyTo answers Unimplemented where blocks cannot be shared: that is what
// makes the caller copy them itself.
func copyTo(ctx context.Context, v repository.Volume, to repository.SR) (repository.VolumeStat, error) {
	made, err := v.Copy(ctx, to)
	if fault.Classify(err) == fault.ErrOtherFS {
		return made, fault.Errorf(serve.ErrUnimplemented, "Volume.copy", "%v", err)
	}
	return made, err
}
