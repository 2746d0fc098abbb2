package plugin

import (
	"log/slog"
	"strings"

	"reflinksr/cmd/internal/smapi"
	"reflinksr/datapath"
	"reflinksr/internal/attached"
	"reflinksr/internal/fault"
	"reflinksr/snapshot"
	"reflinksr/sr"
	"reflinksr/volume"
)

// place is the plugin directory that a call is linked in.
type place int

const (
	inVolume place = 1 << iota
	inDatapath
)

// call is one SMAPIv3 call.
type call struct {
	name   string
	params string // see smapi.Params; every call has dbg first
	where  place
	about  string
	run    func(r *smapi.Request) (any, error)
}

// unit runs what answers null.
func unit(err error) (any, error) { return nil, err }

// calls is the whole interface as this plugin has it, in the order of the
// interface's own documentation.
var calls = []call{
	{"Plugin.query", "", inVolume, "Describe this plugin.", func(r *smapi.Request) (any, error) { return volumeQuery, nil }},
	{"Plugin.query", "", inDatapath, "Describe this plugin.", func(r *smapi.Request) (any, error) { return datapathQuery, nil }},
	{"Plugin.ls", "", inVolume, "List the attached SRs.", func(r *smapi.Request) (any, error) { return attached.Handles() }},
	{"Plugin.diagnostics", "", inVolume | inDatapath, "Tell what a bug report needs, without personal data.", func(r *smapi.Request) (any, error) { return diagnostics() }},

	{"SR.probe", "configuration:map", inVolume, "List what a configuration could become, step by step.", func(r *smapi.Request) (any, error) { return sr.ProbeSR(r.Map("configuration")) }},
	{"SR.create", "uuid configuration:map name description", inVolume, "Make an SR in a directory; adopts a simple file SR.", func(r *smapi.Request) (any, error) {
		return sr.Create(r.Text("uuid"), r.Map("configuration"), r.Text("name"), r.Text("description"))
	}},
	{"SR.attach", "configuration:map", inVolume, "Make an SR usable on this host; recovers it after a crash.", func(r *smapi.Request) (any, error) { return attach(r.Map("configuration")) }},
	{"SR.detach", "sr", inVolume, "End the use of an SR on this host.", func(r *smapi.Request) (any, error) { return unit(datapath.DetachSR(r.Text("sr"))) }},
	{"SR.destroy", "sr", inVolume, "Destroy an SR and its volumes; foreign files stay.", func(r *smapi.Request) (any, error) { return unit(volume.DestroySR(r.Text("sr"))) }},
	{"SR.stat", "sr", inVolume, "Describe an SR: space, health.", func(r *smapi.Request) (any, error) { return sr.StatSR(r.Text("sr"), volume.Warning) }},
	{"SR.set_name", "sr new_name", inVolume, "Rename an SR.", func(r *smapi.Request) (any, error) { return unit(sr.SetName(r.Text("sr"), r.Text("new_name"))) }},
	{"SR.set_description", "sr new_description", inVolume, "Change the description of an SR.", func(r *smapi.Request) (any, error) {
		return unit(sr.SetDescription(r.Text("sr"), r.Text("new_description")))
	}},
	{"SR.ls", "sr", inVolume, "List the volumes of an SR.", func(r *smapi.Request) (any, error) { return volume.List(r.Text("sr")) }},

	{"Volume.create", "sr name description size:size sharable:bool", inVolume, "Make an empty volume of at least size bytes.", func(r *smapi.Request) (any, error) {
		return volume.Create(r.Text("sr"), r.Text("name"), r.Text("description"), r.Size("size"), r.Bool("sharable"))
	}},
	{"Volume.snapshot", "sr key", inVolume, "Make a read-only volume with the contents of now.", func(r *smapi.Request) (any, error) { return snapshot.Snapshot(r.Text("sr"), r.Text("key")) }},
	{"Volume.clone", "sr key", inVolume, "Make a writable volume with the contents of now.", func(r *smapi.Request) (any, error) { return snapshot.Clone(r.Text("sr"), r.Text("key")) }},
	{"Volume.copy", "sr key dest_sr", inVolume, "Make a writable volume in another SR on the same filesystem.", func(r *smapi.Request) (any, error) {
		return copyVolume(r.Text("sr"), r.Text("key"), r.Text("dest_sr"))
	}},
	{"Volume.destroy", "sr key", inVolume, "Destroy a volume that is not in use.", func(r *smapi.Request) (any, error) { return unit(snapshot.Destroy(r.Text("sr"), r.Text("key"))) }},
	{"Volume.revert", "sr snapshot key", inVolume, "Give a volume the contents of a snapshot.", func(r *smapi.Request) (any, error) {
		return unit(snapshot.Revert(r.Text("sr"), r.Text("snapshot"), r.Text("key")))
	}},
	{"Volume.set_name", "sr key new_name", inVolume, "Rename a volume.", func(r *smapi.Request) (any, error) {
		return unit(volume.SetName(r.Text("sr"), r.Text("key"), r.Text("new_name")))
	}},
	{"Volume.set_description", "sr key new_description", inVolume, "Change the description of a volume.", func(r *smapi.Request) (any, error) {
		return unit(volume.SetDescription(r.Text("sr"), r.Text("key"), r.Text("new_description")))
	}},
	{"Volume.set", "sr key k v", inVolume, "Store a key-value pair with a volume.", func(r *smapi.Request) (any, error) {
		return unit(volume.Set(r.Text("sr"), r.Text("key"), r.Text("k"), r.Text("v")))
	}},
	{"Volume.unset", "sr key k", inVolume, "Remove a key-value pair.", func(r *smapi.Request) (any, error) {
		return unit(volume.Unset(r.Text("sr"), r.Text("key"), r.Text("k")))
	}},
	{"Volume.resize", "sr key new_size:size", inVolume, "Make a volume longer, also while a guest has it.", func(r *smapi.Request) (any, error) {
		return unit(volume.Resize(r.Text("sr"), r.Text("key"), r.Size("new_size")))
	}},
	{"Volume.stat", "sr key", inVolume, "Describe a volume.", func(r *smapi.Request) (any, error) { return volume.Stat(r.Text("sr"), r.Text("key")) }},
	{"Volume.compare", "sr key key2", inVolume, "List the blocks that may differ between two volumes.", func(r *smapi.Request) (any, error) {
		return snapshot.Compare(r.Text("sr"), r.Text("key"), r.Text("key2"))
	}},
	{"Volume.similar_content", "sr key", inVolume, "List the relatives of a volume, nearest first.", func(r *smapi.Request) (any, error) {
		return snapshot.SimilarContent(r.Text("sr"), r.Text("key"))
	}},
	{"Volume.enable_cbt", "sr key", inVolume, "Let changed blocks be asked for between the snapshots to come.", func(r *smapi.Request) (any, error) {
		return unit(snapshot.EnableCBT(r.Text("sr"), r.Text("key")))
	}},
	{"Volume.disable_cbt", "sr key", inVolume, "End that for the snapshots to come.", func(r *smapi.Request) (any, error) {
		return unit(snapshot.DisableCBT(r.Text("sr"), r.Text("key")))
	}},
	{"Volume.data_destroy", "sr key", inVolume, "Give back a snapshot's data, but not what tells of changed blocks.", func(r *smapi.Request) (any, error) {
		return unit(snapshot.DestroyData(r.Text("sr"), r.Text("key")))
	}},
	{"Volume.list_changed_blocks", "sr key key2 offset:size length:size", inVolume, "Tell which blocks of key2 may differ from those of key.", func(r *smapi.Request) (any, error) {
		return snapshot.ListChangedBlocks(r.Text("sr"), r.Text("key"), r.Text("key2"), r.Size("offset"), r.Size("length"))
	}},
	{"Volume.compose", "sr key key2", inVolume, "Lay what was written to key over key2, which is gone then.", func(r *smapi.Request) (any, error) {
		return unit(snapshot.Compose(r.Text("sr"), r.Text("key"), r.Text("key2")))
	}},

	{"Datapath.open", "uri persistent:bool", inDatapath, "Say whether writes are to last.", func(r *smapi.Request) (any, error) {
		return unit(datapath.Open(r.Text("uri"), r.Bool("persistent")))
	}},
	{"Datapath.attach", "uri domain", inDatapath, "Make a volume a block device on this host.", func(r *smapi.Request) (any, error) { return datapath.Attach(r.Text("uri"), r.Text("domain")) }},
	{"Datapath.activate", "uri domain", inDatapath, "Let a domain write to the volume.", func(r *smapi.Request) (any, error) {
		return unit(datapath.Activate(r.Text("uri"), r.Text("domain"), false))
	}},
	{"Datapath.activate_readonly", "uri domain", inDatapath, "Let a domain read the volume.", func(r *smapi.Request) (any, error) {
		return unit(datapath.Activate(r.Text("uri"), r.Text("domain"), true))
	}},
	{"Datapath.deactivate", "uri domain", inDatapath, "End a domain's use; its writes are durable.", func(r *smapi.Request) (any, error) {
		return unit(datapath.Deactivate(r.Text("uri"), r.Text("domain")))
	}},
	{"Datapath.detach", "uri domain", inDatapath, "Take the device from a domain; never fails.", func(r *smapi.Request) (any, error) {
		return unit(datapath.Detach(r.Text("uri"), r.Text("domain")))
	}},
	{"Datapath.close", "uri", inDatapath, "Discard what open with persistent=false made.", func(r *smapi.Request) (any, error) { return unit(datapath.Close(r.Text("uri"))) }},
}

// find looks a call up by name, in any case as the toolstack does, for a
// directory that is one of where.
func find(name string, where place) *call {
	for i, c := range calls {
		if c.where&where != 0 && strings.EqualFold(c.name, name) {
			return &calls[i]
		}
	}
	return nil
}

// links are the names that an installed directory offers. Plugin.Query is what
// the toolstack's documentation calls Plugin.query.
func links(where place) []string {
	names := []string{"Plugin.Query"}
	for _, c := range calls {
		if c.where&where != 0 {
			names = append(names, c.name)
		}
	}
	return names
}

func attach(configuration map[string]string) (any, error) {
	handle, err := sr.Attach(configuration)
	if err != nil {
		return nil, err
	}
	if err := datapath.Recover(handle); err != nil {
		// It is attached and usable; the next attach tries again.
		slog.Error("what guests of a former boot left could not all be removed", "sr", handle, "err", err)
	}
	if err := snapshot.Recover(handle); err != nil {
		slog.Error("space of destroyed snapshots could not all be given back", "sr", handle, "err", err)
	}
	return handle, nil
}

// copyVolume answers Unimplemented where blocks cannot be shared: that is what
// makes the caller copy them itself.
func copyVolume(from, key, to string) (any, error) {
	v, err := snapshot.Copy(from, key, to)
	if fault.Classify(err) == fault.ErrOtherFS {
		return nil, fault.Errorf(smapi.ErrUnimplemented, "Volume.copy", "%v", err)
	}
	return v, err
}
