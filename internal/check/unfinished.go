package check

import (
	"strings"

	"reflinksr/sr"
)

// unfinished: what staging holds of a volume, left by an interrupted call, and what recovery
// would do about it. Throw-away disks of a volume that is there, and what was mirrored to it, are not unfinished.
func (e *examination) unfinished(key sr.Key, f *finding) error {
	s, kinds := e.s, e.survey.staged[key]
	if len(kinds) == 0 {
		return nil
	}
	committed, err := s.Root.Exists(sr.Record(key))
	if err != nil {
		return err
	}
	data, err := s.Root.Exists(sr.Data(key))
	if err != nil {
		return err
	}
	staged := map[string]bool{}
	for _, kind := range kinds {
		if staged[kind], err = s.Staging.Exists(string(key) + kind); err != nil {
			return err
		}
	}
	for _, kind := range kinds {
		if !staged[kind] || committed && (strings.HasSuffix(kind, sr.NonpersistentSuffix) || kind == sr.Sectors("")) {
			continue
		}
		p := Problem{Kind: Unfinished, Name: s.Relative(s.Staging, string(key)+kind), Key: key, Repairable: true}
		p.Text, p.Repair = interrupted(kind, committed, data, staged)
		if kind == sr.Base("") {
			p.Note, p.Repairable = true, false
			p.Text, p.Repair = "what disks that are being converted have in common, of a conversion that goes on or was interrupted", nothing("srctl convert goes on with it, and srctl convert --abandon removes it")
		}
		isDir, err := s.Staging.IsDir(string(key) + kind)
		if err != nil {
			return err
		}
		if isDir {
			p.Kind, p.Repairable = Damage, false
			p.Text, p.Repair = "a directory with the name of a file of ours", nothing("move it away")
		}
		f.add(p)
	}
	return nil
}

// interrupted says of which call a staged file is, and what recovery does with it.
// committed: the record is in the SR's directory; data: the data is.
func interrupted(kind string, committed, data bool, staged map[string]bool) (text, repair string) {
	const left = "left in staging by an interrupted "
	switch kind {
	case "":
		switch {
		case committed && !data:
			return "a volume's data, " + left + "creation, snapshot, clone or copy after its commit: the volume is there and its data is here", "puts it in its place"
		case committed:
			return "data, " + left + "call; the volume's own is in its place", "removes it"
		}
		return "data, " + left + "creation, snapshot, clone or copy before its commit: there is no such volume", "removes it"
	case ".inf":
		switch {
		case committed:
			return "a record, " + left + "call; the volume's own is in its place", "removes it"
		case data:
			return "a record, " + left + "creation before its commit or a destruction after it: there is no such volume, its data is still in the SR's directory", "removes it and the data"
		case staged[""]:
			return "a record, " + left + "creation, snapshot, clone or copy before its commit: there is no such volume", "removes it"
		}
		return "a record, " + left + "destruction after its commit: there is no such volume", "removes it"
	case ".inf.new":
		return "a record, " + left + "change (name, description, keys, size): the volume has its own, old or new", "removes it"
	case ".revert":
		return "data, " + left + "revert: the volume has its own, old or new", "removes it"
	case ".composed":
		return "data, " + left + "composition: the volume has its own, old or new", "removes it"
	case ".renewed":
		return "data, " + left + "attach: the volume has its own, with the same contents", "removes it"
	case sr.Sectors(""):
		return "what was mirrored to a volume that is no more", "removes it"
	case sr.PendingCBT + ".new":
		return "changed blocks, " + left + "destruction of data", "removes it"
	case sr.Base("") + ".new":
		return "data, " + left + "conversion", "removes it"
	case ".new":
		return "a lease, " + left + "activation or deactivation", "removes it"
	}
	return "the nonpersistent disk of a volume that is no more", "removes it"
}
