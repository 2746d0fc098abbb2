package plugin

import (
	"reflinksr/internal/repository"
	"reflinksr/internal/smapi"
)

// as makes of what a use case answers what the interface does.
func as[T, U any](convert func(T) U) func(T, error) (U, error) {
	return func(v T, err error) (u U, _ error) {
		if err != nil {
			return u, err
		}
		return convert(v), nil
	}
}

// list is as for each of a list. An empty one is a list as well.
func list[T, U any](convert func(T) U) func([]T, error) ([]U, error) {
	return as(func(all []T) []U {
		converted := make([]U, len(all))
		for i, v := range all {
			converted[i] = convert(v)
		}
		return converted
	})
}

func asOperation(mirror string) smapi.Operation { return smapi.Operation{MirrorV1: &mirror} }

// asMirrorStatus tells of one that has failed that it is not complete: the toolstack looks at that first.
func asMirrorStatus(m repository.MirrorState) smapi.Status {
	progress := m.Progress()
	return smapi.Status{Failed: m.Failed != "", Complete: m.Complete && m.Failed == "", Progress: &progress}
}

func asText(key repository.Key) string { return string(key) }

func asHandle(sr repository.SR) string { return string(sr) }

func asVolume(v repository.VolumeStat) smapi.Volume {
	return smapi.Volume{
		Key: string(v.Key), UUID: v.UUID, Name: v.Name, Description: v.Description, ReadWrite: v.ReadWrite, Sharable: v.Sharable,
		VirtualSize: v.VirtualSize, PhysicalUtilisation: v.PhysicalUtilisation, URI: v.URI, Keys: v.Keys,
		VolumeType: smapi.VolumeType(v.VolumeType), CBTEnabled: v.CBTEnabled,
	}
}

func asSRStatus(s repository.SRStat) smapi.SRStatus {
	return smapi.SRStatus{
		SR: s.SR, UUID: s.UUID, Name: s.Name, Description: s.Description, FreeSpace: s.FreeSpace, TotalSpace: s.TotalSpace,
		Datasources: s.Datasources, Clustered: s.Clustered, Health: smapi.Health(s.Health),
	}
}

func asProbeResult(c repository.Candidate) smapi.ProbeResult {
	result := smapi.ProbeResult{Configuration: c.Configuration, Complete: c.Complete, ExtraInfo: c.ExtraInfo}
	if c.SR != nil {
		status := asSRStatus(*c.SR)
		result.SR = &status
	}
	return result
}

func asBlocklist(l repository.BlockList) smapi.Blocklist {
	ranges := make([]smapi.Range, len(l.Ranges))
	for i, r := range l.Ranges {
		ranges[i] = r
	}
	return smapi.Blocklist{BlockSize: l.BlockSize, Ranges: ranges}
}

func asChangedBlocks(c repository.ChangedBlocks) smapi.ChangedBlocks {
	return smapi.ChangedBlocks{Granularity: c.Granularity, Bitmap: smapi.Bitmap(c.Bitmap)}
}

// asBackend presents a block device to xen-blkback ("vbd") and to programs of this host, and to those the file. Of
// the two xapi takes the file, which has holes, and static-vdis what comes first: a device is what HA's daemon writes to.
func asBackend(p repository.Paths) smapi.Backend {
	b := smapi.Backend{Implementations: []smapi.Implementation{
		{XenDisk: &smapi.XenDisk{Params: p.Device, Extra: map[string]string{}, BackendType: "vbd"}},
		{BlockDevice: &smapi.BlockDevice{Path: p.Device}},
	}}
	if p.File != "" {
		b.Implementations = append(b.Implementations, smapi.Implementation{File: &smapi.File{Path: p.File}})
	}
	if p.NBD != "" {
		b.Implementations = append(b.Implementations, smapi.Implementation{Nbd: &smapi.Nbd{URI: p.NBD}})
	}
	return b
}
