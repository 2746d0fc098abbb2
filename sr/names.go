package sr

import (
	"strings"

	"reflinksr/internal/layout"
	"reflinksr/internal/uuids"
)

// Data is the name of a volume's data file, in Root and in Staging.
func Data(key Key) string { return string(key) }

// Record is the name of a volume's record there.
func Record(key Key) string { return string(key) + ".inf" }

// StagedPath is where a staged file is, below the SR's directory.
func StagedPath(name string) string { return layout.ControlDir + "/staging/" + name }

// PendingCBT ends the name of a file in CBT some of whose blocks may not have been
// given back yet.
const PendingCBT = ".todo"

// StagedName takes apart the name of a file in staging: a volume's key and what
// the file is: "" its data, ".inf" its record, ".inf.new" an unfinished rewrite of the
// record, ".new" of its lease, ".todo.new" of what it knows of changed blocks, ".revert"
// ".composed" and ".renewed" new data, or what it has replaced, ".base" what converted disks have in common (package
// volume), and ".base.new" that before it is whole, ".sectors" what has been received of it sector by sector. Others begin with a key and a dot as well (package
// datapath's nonpersistent disks) and are not ours to judge.
func StagedName(name string) (key Key, kind string, ok bool) {
	if len(name) < 36 || !uuids.IsCanonical(name[:36]) {
		return "", "", false
	}
	key, kind = Key(name[:36]), name[36:]
	switch kind {
	case "", ".inf", ".inf.new", ".revert", ".new", ".composed", renewed, PendingCBT + ".new", base, base + ".new", sectorsKind:
		return key, kind, true
	}
	return key, kind, strings.HasPrefix(kind, ".") && strings.HasSuffix(kind, NonpersistentSuffix)
}

// Renewed names the staged file that takes the place of a volume's data with the same contents, so that its device
// can have direct I/O: new before that, old after it.
func Renewed(key Key) string { return string(key) + renewed }

const renewed = ".renewed"

// Base names the staged file of what several disks have in common that are being converted, and none of them holds alone. It is
// of use to nobody else, and stays until the conversion has come to its end.
func Base(key Key) string { return string(key) + base }

const base = ".base"

// Sectors names the file that has sectors of a volume whose blocks were written only in part by who mirrors to it. It is no half of a
// call: as long as it is there the volume's own file does not have all that was written.
func Sectors(key Key) string { return string(key) + sectorsKind }

const sectorsKind = ".sectors"

// Composed names the staged data of a composition: new before its commit, old after it.
func Composed(key Key) string { return string(key) + ".composed" }

// NonpersistentSuffix ends the staging names of nonpersistent disks.
const NonpersistentSuffix = ".throwaway"
