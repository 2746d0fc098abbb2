package smapi

import "slices"

// Feature is a name by which a plugin tells the toolstack what it can do.
type Feature struct {
	Name  string
	Of    Request // the call without which it means nothing
	In    Plugins // the kinds of plugins that tell it
	Claim bool    // a plugin may have the call without it; else it follows from the call
}

// Features are those that the toolstack knows and that a plugin can have.
var Features = []Feature{
	{"SR_CREATE", SRCreate{}, InVolume, false},
	{"SR_DELETE", SRDestroy{}, InVolume, false},
	{"SR_ATTACH", SRAttach{}, InVolume, false},
	{"SR_DETACH", SRDetach{}, InVolume, false},
	{"SR_SCAN", SRLs{}, InVolume, false},
	{"SR_PROBE", SRProbe{}, InVolume, false},
	{"SR_UPDATE", SRStat{}, InVolume, false},
	{"SR_STATS", SRStat{}, InVolume, true},
	{"SR_METADATA", SRStat{}, InVolume, true},
	{"VDI_CREATE", VolumeCreate{}, InVolume, false},
	{"VDI_DESTROY", VolumeDestroy{}, InVolume, false},
	{"VDI_ATTACH", DatapathAttach{}, InVolume, false},
	{"VDI_DETACH", DatapathDetach{}, InVolume, false},
	{"VDI_ATTACH_OFFLINE", DatapathAttach{}, InVolume, true},
	{"VDI_ACTIVATE", DatapathActivate{}, InVolume, false},
	{"VDI_ACTIVATE_READONLY", DatapathActivateReadonly{}, InVolume, false},
	{"VDI_DEACTIVATE", DatapathDeactivate{}, InVolume, false},
	{"VDI_UPDATE", VolumeStat{}, InVolume, false},
	{"VDI_CLONE", VolumeClone{}, InVolume, false},
	{"VDI_SNAPSHOT", VolumeSnapshot{}, InVolume, false},
	{"VDI_COPY", VolumeCopy{}, InVolume, false},
	{"VDI_REVERT", VolumeRevert{}, InVolume, false},
	{"VDI_CONFIG_CBT", VolumeListChangedBlocks{}, InVolume, false},
	{"VDI_COMPOSE", VolumeCompose{}, InVolume, false},
	{"VDI_MIRROR", DataMirror{}, InVolume, false},
	{"VDI_MIRROR_IN", DatapathImportActivate{}, InVolume | InDatapath, false},
	{"VDI_RESIZE", VolumeResize{}, InVolume, false},
	{"VDI_RESIZE_ONLINE", VolumeResize{}, InVolume, true},
	{"LARGE_VDI", VolumeCreate{}, InVolume, true},
	{"THIN_PROVISIONING", VolumeCreate{}, InVolume, true},
	{"NONPERSISTENT", DatapathOpen{}, InDatapath, false},
}

// FeaturesOf are the features that a plugin of a kind tells which offers some calls, those of
// its other kind included, and claims what does not follow from them.
func FeaturesOf(in Plugins, offered []string, claims ...string) []string {
	names := []string{}
	for _, f := range Features {
		claimed := !f.Claim || slices.Contains(claims, f.Name)
		if f.In&in != 0 && claimed && slices.Contains(offered, f.Of.Call()) {
			names = append(names, f.Name)
		}
	}
	return names
}
