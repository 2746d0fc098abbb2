package calls

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/cmd/srcrash/internal/trace"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/rundir"
	"reflinksr/internal/smapi"
	"reflinksr/sr"
	volumes "reflinksr/volume"
)

func uriOf(path, uuid string, key sr.Key) string { return volumes.URIAt(path, uuid, key) }

// again says what comes of a call that is made a second time.
type again int

const (
	same    again = iota // it succeeds, and the state is that after the first
	another              // it succeeds and does one more of the same
	gone                 // there is nothing left to do it to
	over                 // it is refused, because one of the volumes is no more
)

// kase is a call in a situation.
type kase struct {
	name  string // the call, and the situation
	args  func(w *world, call string) smapi.Request
	again again

	command func(*world) []string // in place of args: what an operator has this program do
	on      string                // the only kind of filesystem on which there is something to do; "": all

	home     string             // the SR that it is about; by default "sr"
	detached bool               // the SR is not attached before
	prepare  func(*world) error // more for the state before, on the disk
	begin    func(*world) error // and on the host
	device   bool               // it is about a device of main, or has one beside it
	healing  bool               // it mends what was left before

	// It has two commits, one after the other: the state between them is right as well,
	// but after a refusal, unless it is one that stands.
	between func(before, after *state) *state
	stands  bool

	sharing bool // it counts which files share blocks

	reached func(*world) error // judges besides what it has led to

	refused string             // what for, undisturbed, as of smapi.Failure.IsNamed; "": it succeeds
	end     func(*world) error // undoes what begin did to files
}

func ofSR(w *world, call string) smapi.Request { return rig.OfSR(call, w.handle("sr")) }

func ofVolume(name string) func(*world, string) smapi.Request {
	return func(w *world, call string) smapi.Request { return rig.OfVolume(call, w.handle("sr"), w.key(name)) }
}

func ofDatapath(name, domain string) func(*world, string) smapi.Request {
	return func(w *world, call string) smapi.Request { return rig.OfDatapath(call, w.uri(name), domain) }
}

func createIn(dir, name string) func(*world, string) smapi.Request {
	return func(w *world, _ string) smapi.Request {
		return smapi.SRCreate{UUID: w.uuids[dir], Configuration: map[string]string{"path": w.path(dir)}, Name: name}
	}
}

func attachOf(dir string) func(*world, string) smapi.Request {
	return func(w *world, _ string) smapi.Request { return smapi.SRAttach{Configuration: w.configuration(dir)} }
}

func copyTo(dir string) func(*world, string) smapi.Request {
	return func(w *world, _ string) smapi.Request {
		return smapi.VolumeCopy{SR: w.handle("sr"), Key: w.key("main"), DestSR: w.handle(dir)}
	}
}

func revertTo(key, snapshot string) func(*world, string) smapi.Request {
	return func(w *world, _ string) smapi.Request {
		return smapi.VolumeRevert{SR: w.handle("sr"), Snapshot: w.key(snapshot), Key: w.key(key)}
	}
}

var revert = revertTo("main", "snapshot")

func set(k, v string) func(*world, string) smapi.Request {
	return func(w *world, _ string) smapi.Request { return w.set("main", k, v) }
}

func resize(size int64) func(*world, string) smapi.Request {
	return func(w *world, _ string) smapi.Request { return w.resize("main", size) }
}

func openMain(persistent bool) func(*world, string) smapi.Request {
	return func(w *world, _ string) smapi.Request {
		return smapi.DatapathOpen{URI: w.uri("main"), Persistent: persistent}
	}
}

func plugged(calls ...string) func(*world) error {
	return func(w *world) error { return w.plug("main", "1", calls...) }
}

const (
	open     = "Datapath.open"
	attach   = "Datapath.attach"
	activate = "Datapath.activate"
)

// kases are all calls that change something. What takes longest comes first: in the end it would run alone.
var kases = []kase{
	{name: "Volume.snapshot/in_pieces", again: another, device: true, prepare: (*world).scatter, begin: plugged(attach, activate), args: ofVolume("main")},

	{name: "SR.create", home: "empty", detached: true, args: createIn("empty", "new")},
	{name: "SR.create/adopting", home: "simple", detached: true, args: createIn("simple", "old")},
	{name: "SR.attach", detached: true, args: attachOf("sr")},
	{name: "SR.attach/recovering", detached: true, healing: true, prepare: (*world).interrupt, args: attachOf("sr")},
	{name: "SR.detach", args: ofSR},
	{name: "SR.destroy", again: gone, args: ofSR},
	{name: "SR.set_name", args: func(w *world, _ string) smapi.Request {
		return smapi.SRSetName{SR: w.handle("sr"), NewName: "renamed"}
	}},
	{name: "SR.set_description", args: func(w *world, _ string) smapi.Request {
		return smapi.SRSetDescription{SR: w.handle("sr"), NewDescription: "described"}
	}},

	{name: "Volume.create", again: another, args: func(w *world, _ string) smapi.Request {
		return smapi.VolumeCreate{SR: w.handle("sr"), Name: "fresh", Description: "d", Size: diskSize, Sharable: true}
	}},
	{name: "Volume.snapshot", again: another, args: ofVolume("main")},
	{name: "Volume.snapshot/active", again: another, device: true, begin: plugged(attach, activate), args: ofVolume("main")},
	{name: "Volume.clone", again: another, args: ofVolume("main")},
	{name: "Volume.clone/of_snapshot", again: another, args: ofVolume("snapshot")},
	{name: "Volume.copy", again: another, args: copyTo("sr")},
	{name: "Volume.copy/to_other_sr", again: another, home: "other", args: copyTo("other")},
	{name: "Volume.destroy", args: ofVolume("main")},
	{name: "Volume.destroy/clone_on_boot", between: withoutClone, stands: true, prepare: (*world).cloneOnBoot, args: ofVolume("main")},
	{name: "Volume.revert", args: revert},
	{name: "Volume.revert/to_shorter", args: revert, prepare: func(w *world) error {
		return w.call(w.resize("main", 2*diskSize), nil)
	}},
	{name: "Volume.set", args: set("snapshot_of", "something")},
	{name: "Volume.unset", args: func(w *world, _ string) smapi.Request {
		return smapi.VolumeUnset{SR: w.handle("sr"), Key: w.key("main"), K: "color"}
	}},
	{name: "Volume.set_name", args: func(w *world, _ string) smapi.Request {
		return smapi.VolumeSetName{SR: w.handle("sr"), Key: w.key("main"), NewName: "renamed"}
	}},
	{name: "Volume.set_description", args: func(w *world, _ string) smapi.Request {
		return smapi.VolumeSetDescription{SR: w.handle("sr"), Key: w.key("main"), NewDescription: "described"}
	}},
	{name: "Volume.enable_cbt", args: ofVolume("main")},
	{name: "Volume.disable_cbt", prepare: (*world).track, args: ofVolume("main")},
	{name: "Volume.data_destroy", sharing: true, prepare: (*world).track, args: ofVolume("second")},
	{name: "Volume.data_destroy/older_relative", sharing: true, prepare: destroyedData("first"), args: ofVolume("second")},
	{name: "Volume.data_destroy/newer_relative", sharing: true, prepare: destroyedData("second"), args: ofVolume("first")},
	{name: "Volume.data_destroy/again", sharing: true, healing: true, prepare: (*world).withheld, args: ofVolume("second")},
	{name: "SR.attach/giving_back", detached: true, healing: true, sharing: true, prepare: (*world).withheld, args: attachOf("sr")},
	{name: "SR.destroy/destroyed_data", again: gone, prepare: destroyedData("first"), args: ofSR},
	{name: "Volume.destroy/block_owner", sharing: true, prepare: destroyedData("first", "second", "third"), args: ofVolume("second")},
	{name: "Volume.destroy/of_destroyed", sharing: true, prepare: destroyedData("second"), args: ofVolume("first")},
	{name: "Volume.compose", sharing: true, again: over, prepare: (*world).leaf, args: compose},
	{name: "Volume.compose/unrelated", sharing: true, again: over, between: composed, prepare: layer(diskSize), args: compose},
	{name: "Volume.compose/longer", sharing: true, again: over, between: composed, prepare: layer(diskSize + 1), args: compose},
	{name: "Volume.compose/received", sharing: true, again: over, between: taken, prepare: received, args: compose},
	{name: "Volume.destroy/received", sharing: true, prepare: received, args: ofVolume("layer")}, // whose sectors name its inode: no copy has that
	{name: "Volume.resize", args: resize(2 * diskSize)},
	{name: "Volume.resize/active", device: true, begin: plugged(attach, activate), args: resize(2 * diskSize)},

	{name: CompactCommand, on: "btrfs", sharing: true, prepare: (*world).worn, command: compactMain, reached: (*world).compacted},

	{name: "Datapath.open", device: true, args: openMain(true)},
	{name: "Datapath.open/throw_away", device: true, args: openMain(false)},
	{name: "Datapath.attach", device: true, args: ofDatapath("main", "1")},
	{name: "Datapath.attach/throw_away", device: true, begin: plugged(open), args: ofDatapath("main", "1")},
	{name: "Datapath.attach/second_domain", device: true, begin: plugged(attach), args: ofDatapath("main", "2")},
	{name: "Datapath.activate", device: true, begin: plugged(attach), args: ofDatapath("main", "1")},
	{name: "Datapath.activate/throw_away", device: true, begin: plugged(open, attach), args: ofDatapath("main", "1")},
	{name: "Datapath.activate_readonly", device: true, begin: plugged(attach), args: ofDatapath("main", "1")},
	{name: "Datapath.deactivate", device: true, begin: plugged(attach, activate), args: ofDatapath("main", "1")},
	{name: "Datapath.detach", device: true, begin: plugged(attach), args: ofDatapath("main", "1")},
	{name: "Datapath.detach/active", device: true, begin: plugged(attach, activate), args: ofDatapath("main", "1")},
	{name: "Datapath.attach/dom0", device: true, args: ofDatapath("main", "0")},
	{name: "Datapath.attach/dom0_beside_a_guest", device: true, begin: plugged(attach), args: ofDatapath("main", "u0_a")},
	{name: "Datapath.deactivate/dom0", device: true, begin: func(w *world) error { return w.plug("main", "0", attach, activate) }, args: ofDatapath("main", "0")},
	{name: "Datapath.detach/dom0", device: true, begin: func(w *world) error { return w.plug("main", "0", attach) }, args: ofDatapath("main", "0")},
	{name: "Datapath.detach/dom0_beside_a_guest", device: true, begin: func(w *world) error {
		return errors.Join(w.plug("main", "1", attach), w.plug("main", "u0_a", attach))
	}, args: ofDatapath("main", "u0_a")},
	{name: "Datapath.close", device: true, begin: plugged(open), args: ofDatapath("main", "")},

	// What must not be done, and is not whatever cannot be looked at.
	{name: "Volume.destroy/in_use", refused: "24", device: true, begin: plugged(attach, activate), args: ofVolume("main")},
	{name: "Volume.destroy/attached", refused: "24", device: true, begin: plugged(attach), args: ofVolume("main")},
	{name: "Volume.destroy/throw_away_in_use", refused: "24", device: true, begin: plugged(open, attach), args: ofVolume("main")},
	{name: "Volume.destroy/in_use_elsewhere", refused: "24", prepare: (*world).leaseElsewhere, args: ofVolume("main")},
	{name: "Volume.destroy/immutable_data", refused: "24", begin: immutable(""), end: mutable(""), args: ofVolume("main")},
	{name: "Volume.destroy/immutable_record", refused: "24", begin: immutable(".inf"), end: mutable(".inf"), args: ofVolume("main")},
	{name: "Volume.destroy/clone_in_use", refused: "24", prepare: (*world).cloneOnBoot, begin: func(w *world) error { return w.plug("clone", "1", attach) }, args: ofVolume("main")},
	{name: "Volume.destroy/newer", refused: "47", prepare: (*world).newer, args: ofVolume("main")},
	{name: "SR.destroy/in_use", refused: "16", device: true, begin: plugged(attach, activate), args: ofSR},
	{name: "SR.destroy/attached", refused: "16", device: true, begin: plugged(attach), args: ofSR},
	{name: "SR.destroy/in_use_elsewhere", refused: "16", prepare: (*world).leaseElsewhere, args: ofSR},
	{name: "SR.destroy/immutable_data", refused: "16", begin: immutable(""), end: mutable(""), args: ofSR},
	{name: "SR.destroy/immutable_record", refused: "16", begin: immutable(".inf"), end: mutable(".inf"), args: ofSR},
	{name: "SR.detach/in_use", refused: "16", device: true, begin: plugged(attach, activate), args: ofSR},
	{name: "SR.detach/attached", refused: "16", device: true, begin: plugged(attach), args: ofSR},
	{name: "SR.create/taken", refused: "42", args: func(w *world, _ string) smapi.Request {
		return smapi.SRCreate{UUID: w.uuids["empty"], Configuration: map[string]string{"path": w.path("sr")}, Name: "new"}
	}},
	{name: "SR.attach/attached_elsewhere", refused: "16", prepare: (*world).copied, args: func(w *world, _ string) smapi.Request {
		return smapi.SRAttach{Configuration: map[string]string{"path": w.path("empty"), "sr_uuid": w.uuids["sr"]}}
	}},
	{name: "Volume.revert/in_use", refused: "24", device: true, begin: plugged(attach, activate), args: revert},
	{name: "Volume.revert/attached", refused: "24", device: true, begin: plugged(attach), args: revert},
	{name: "Volume.revert/in_use_elsewhere", refused: "24", prepare: (*world).leaseElsewhere, args: revert},
	{name: "Volume.revert/read_only", refused: "1", args: revertTo("snapshot", "main")},
	{name: "Volume.resize/shorter", refused: "79", args: resize(4096)},
	{name: "Volume.resize/throw_away_in_use", refused: "24", device: true, begin: plugged(open, attach), args: resize(2 * diskSize)},
	{name: "Volume.resize/in_use_elsewhere", refused: "Activated_on_another_host", prepare: (*world).leaseElsewhere, args: resize(2 * diskSize)},
	{name: "Volume.set/newer", refused: "47", prepare: (*world).newer, args: set("a", "b")},
	{name: "Volume.snapshot/without_data", refused: "66", prepare: destroyedData("second"), args: ofVolume("second")},
	{name: "Volume.data_destroy/in_use", refused: "24", prepare: (*world).track, begin: func(w *world) error {
		return w.plug("second", "1", attach, "Datapath.activate_readonly")
	}, args: ofVolume("second")},
	{name: "Volume.compose/in_use", refused: "24", prepare: (*world).leaf, begin: func(w *world) error { return w.plug("layer", "1", attach, activate) }, args: compose},
	{name: CompactCommand + "/in_use", on: "btrfs", refused: "24", device: true, begin: plugged(attach, activate), command: compactMain},
	{name: CompactCommand + "/attached", on: "btrfs", refused: "24", device: true, begin: plugged(attach), command: compactMain},
	{name: CompactCommand + "/without_data", on: "btrfs", refused: "66", prepare: destroyedData("second"), command: func(w *world) []string {
		return []string{CompactCommand, w.handle("sr"), w.key("second")}
	}},
	{name: "Datapath.attach/without_data", refused: "66", prepare: destroyedData("second"), args: ofDatapath("second", "1")},
	{name: "Datapath.activate/second_writer", refused: "24", device: true, begin: func(w *world) error {
		return errors.Join(w.plug("main", "1", attach, activate), w.plug("main", "2", attach))
	}, args: ofDatapath("main", "2")},
	{name: "Datapath.activate/in_use_elsewhere", refused: "Activated_on_another_host", prepare: (*world).leaseElsewhere, begin: plugged(attach), args: ofDatapath("main", "1")},
	{name: "Datapath.open/attached", refused: "24", device: true, begin: plugged(attach), args: openMain(false)},
	{name: "Datapath.close/attached", refused: "24", device: true, begin: plugged(open, attach), args: ofDatapath("main", "")},
}

// leaseElsewhere lets another host have main.
func (w *world) leaseElsewhere() error {
	const lease = `{"format":1,"holders":[{"host":"0b0b0b0b-2222-4333-8444-555555555555","boot":"0a0a0a0a-2222-4333-8444-555555555555","domain":"5","write":true,"since":"2026-01-01T00:00:00Z"}]}`
	return os.WriteFile(w.control("leases/"+string(w.keys["main"])), []byte(lease), 0o600)
}

// newer gives main the record of a newer version.
func (w *world) newer() error {
	path := w.data("main") + ".inf"
	record, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, bytes.Replace(record, []byte(`"format":1`), []byte(`"format":9`), 1), 0o600)
}

// copied makes a copy of the SR.
func (w *world) copied() error {
	marker, err := os.ReadFile(filepath.Join(w.path("sr"), "sr.json"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.path("empty"), "sr.json"), marker, 0o600)
}

// immutable and mutable are chattr +i and -i of a file of main.
func immutable(suffix string) func(*world) error {
	return func(w *world) error { return w.setImmutable(suffix, true) }
}

func mutable(suffix string) func(*world) error {
	return func(w *world) error { return w.setImmutable(suffix, false) }
}

func (w *world) setImmutable(suffix string, on bool) error {
	f, err := os.Open(w.data("main") + suffix)
	if errors.Is(err, os.ErrNotExist) && !on {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	if flags &^= unix.STATX_ATTR_IMMUTABLE; on {
		flags |= unix.STATX_ATTR_IMMUTABLE
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags))
}

// cloneOnBoot gives main a clone that the toolstack resets at every boot.
func (w *world) cloneOnBoot() error {
	if err := w.derive("clone", "Volume.clone", "main"); err != nil {
		return err
	}
	return w.call(w.set("main", "clone-on-boot", w.key("clone")), nil)
}

// withoutClone is between the end of the clone and that of main.
func withoutClone(before, _ *state) *state {
	return before.with("sr", func(r *repository) { delete(r.Volumes, "clone") })
}

// interrupt leaves what calls leave when they are killed: a creation before its
// commit, a destruction after it, a rewrite, a revert, a lock of a volume that is no
// more, and a lease of a former boot.
func (w *world) interrupt() error {
	if err := w.create("doomed"); err != nil {
		return err
	}
	if err := os.Rename(w.data("doomed")+".inf", w.control("staging/"+string(w.keys["doomed"])+".inf")); err != nil {
		return err
	}
	record, err := os.ReadFile(w.data("main") + ".inf")
	if err != nil {
		return err
	}
	unborn, err := sr.NewKey()
	if err != nil {
		return err
	}
	w.keys["unborn"] = unborn
	staged := func(name, suffix string) string { return w.control("staging/" + string(w.keys[name]) + suffix) }
	return errors.Join(
		os.WriteFile(staged("unborn", ""), make([]byte, diskSize), 0o600),
		os.WriteFile(staged("unborn", ".inf"), record, 0o600),
		os.WriteFile(staged("main", ".inf.new"), record[:10], 0o600),
		os.WriteFile(staged("main", ".revert"), nil, 0o600),
		os.WriteFile(w.control("locks/"+string(unborn)), nil, 0o600),
		os.WriteFile(w.control("leases/"+string(w.keys["main"])), w.formerLease(), 0o600),
	)
}

func (w *world) formerLease() []byte {
	me, err := hostinfo.ThisHost()
	if err != nil {
		return nil
	}
	return fmt.Appendf(nil, `{"format":1,"holders":[{"host":%q,"boot":"0a0a0a0a-2222-4333-8444-555555555555","domain":"5","write":true,"since":"2026-01-01T00:00:00Z"}]}`, me.UUID)
}

// method is the call's name.
func (k *kase) method() string {
	method, _, _ := strings.Cut(k.name, "/")
	return method
}

// make makes the call undisturbed.
func (k *kase) make(w *world) error {
	if k.command != nil {
		return w.operate(k.command(w))
	}
	return w.call(k.request(w), nil)
}

// request is the call's request in a world.
func (k *kase) request(w *world) smapi.Request {
	r := k.args(w, k.method())
	if r.Call() != k.method() {
		panic(k.name + " makes the call " + r.Call())
	}
	return r
}

// scope is where a call's changes count.
func (w *world) scope() []string {
	// The last two are where a disk is traced: where tracefs is mounted, or is not.
	return []string{w.dir, rundir.Path, "/dev", "/sys/kernel/tracing", "/instances"}
}

func (w *world) command(r smapi.Request) trace.Command {
	c := w.Plugin.Command(r)
	return trace.Command{Path: c.Path, Args: []string{"--json"}, Stdin: c.Request}
}
