package smapi

import "strings"

// Plugins are kinds of plugins; each has a directory of its own.
type Plugins int

// The kinds of plugins.
const (
	InVolume   Plugins = 1 << iota // SRs and volumes
	InDatapath                     // what a guest gets of a volume
)

// Call is a call of the interface.
type Call struct {
	Request         // zero: what it takes and answers
	In      Plugins // the kinds of plugins that may have it
	About   string  // a sentence
}

// Calls are the calls of the interface, in the order of its documentation.
var Calls = []Call{
	{PluginQuery{}, InVolume | InDatapath, "Describe this plugin."},
	{PluginLs{}, InVolume, "List the attached SRs."},
	{PluginDiagnostics{}, InVolume | InDatapath, "Tell what a bug report needs, without personal data."},

	{SRProbe{}, InVolume, "List what a configuration could become, step by step."},
	{SRCreate{}, InVolume, "Make an SR."},
	{SRAttach{}, InVolume, "Make an SR usable on this host."},
	{SRDetach{}, InVolume, "End the use of an SR on this host."},
	{SRDestroy{}, InVolume, "Destroy an SR and its volumes."},
	{SRStat{}, InVolume, "Describe an SR: space, health."},
	{SRSetName{}, InVolume, "Rename an SR."},
	{SRSetDescription{}, InVolume, "Change the description of an SR."},
	{SRLs{}, InVolume, "List the volumes of an SR."},

	{VolumeCreate{}, InVolume, "Make an empty volume of at least size bytes."},
	{VolumeSnapshot{}, InVolume, "Make a read-only volume with the contents of now."},
	{VolumeClone{}, InVolume, "Make a writable volume with the contents of now."},
	{VolumeCopy{}, InVolume, "Make a writable volume in another SR."},
	{VolumeDestroy{}, InVolume, "Destroy a volume that is not in use."},
	{VolumeRevert{}, InVolume, "Give a volume the contents of a snapshot."},
	{VolumeSetName{}, InVolume, "Rename a volume."},
	{VolumeSetDescription{}, InVolume, "Change the description of a volume."},
	{VolumeSet{}, InVolume, "Store a key-value pair with a volume."},
	{VolumeUnset{}, InVolume, "Remove a key-value pair."},
	{VolumeResize{}, InVolume, "Make a volume longer, also while a guest has it."},
	{VolumeStat{}, InVolume, "Describe a volume."},
	{VolumeCompare{}, InVolume, "List the blocks that may differ between two volumes."},
	{VolumeSimilarContent{}, InVolume, "List the relatives of a volume, nearest first."},
	{VolumeEnableCBT{}, InVolume, "Let changed blocks be asked for between the snapshots to come."},
	{VolumeDisableCBT{}, InVolume, "End that for the snapshots to come."},
	{VolumeDataDestroy{}, InVolume, "Give back a snapshot's data, but not what tells of changed blocks."},
	{VolumeListChangedBlocks{}, InVolume, "Tell which blocks of key2 may differ from those of key."},
	{VolumeCompose{}, InVolume, "Lay what was written to key over key2, which is gone then."},

	{DatapathOpen{}, InDatapath, "Say whether writes are to last."},
	{DatapathAttach{}, InDatapath, "Make a volume a block device on this host."},
	{DatapathActivate{}, InDatapath, "Let a domain write to the volume."},
	{DatapathActivateReadonly{}, InDatapath, "Let a domain read the volume."},
	{DatapathDeactivate{}, InDatapath, "End a domain's use; its writes are durable."},
	{DatapathDetach{}, InDatapath, "Take the device from a domain; never fails."},
	{DatapathImportActivate{}, InDatapath, "Let a volume be received: the path of a socket that takes an NBD connection."},
	{DatapathClose{}, InDatapath, "Discard what open with persistent=false made."},

	{DataCopy{}, InDatapath, "Begin to copy blocks of a volume to another host."},
	{DataMirror{}, InDatapath, "Begin to mirror what is written to a volume."},
	{DataStat{}, InDatapath, "Tell how a copy or a mirror goes."},
	{DataCancel{}, InDatapath, "End a copy or a mirror."},
	{DataDestroy{}, InDatapath, "Forget a copy or a mirror."},
	{DataLs{}, InDatapath, "List the copies and mirrors."},

	{TaskStat{}, InVolume, "Tell how a call that takes long goes."},
	{TaskCancel{}, InVolume, "End a call that takes long."},
	{TaskDestroy{}, InVolume, "Forget a call that has ended."},
	{TaskLs{}, InVolume, "List the calls that take long."},
}

// Find looks a call up by its name, in any case as the toolstack does; nil if the interface has
// none of the name.
func Find(name string) *Call {
	for i := range Calls {
		if strings.EqualFold(Calls[i].Call(), name) {
			return &Calls[i]
		}
	}
	return nil
}

// IsName says whether a file is named as an executable of a call is, Class.method in any case,
// though the class may have no such method.
func IsName(file string) bool { return PluginsOf(file) != 0 }

// PluginsOf says which kinds of plugins may have a call of that name, whether or not the interface
// has it: that depends on the class. 0 if it is not named as a call is.
func PluginsOf(name string) Plugins {
	class, method, _ := strings.Cut(strings.ToLower(name), ".")
	if method == "" || strings.Trim(method, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return 0
	}
	var in Plugins
	for _, c := range Calls {
		if of, _, _ := strings.Cut(c.Call(), "."); strings.EqualFold(of, class) {
			in |= c.In
		}
	}
	return in
}

// Names are the names of all calls, in the order of Calls.
func Names() []string {
	names := make([]string, len(Calls))
	for i, c := range Calls {
		names[i] = c.Call()
	}
	return names
}
