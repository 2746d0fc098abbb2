package check

import (
	"fmt"

	"reflinksr/datapath/lease"
	"reflinksr/internal/hostinfo"
	"reflinksr/sr"
)

// identity: a host that has none but that of its boot, as far as that matters to the SR.
func identity(e *examination, _ []sr.Key, _ []finding) []Problem {
	if !e.me.Nameless() {
		return nil
	}
	p := Problem{Kind: NoIdentity, Name: "/etc/machine-id", Note: !e.s.Meta.Filesystem.Clustered(),
		Text:   "this host has no identity but that of its boot: neither INSTALLATION_UUID in /etc/xensource-inventory nor a machine-id",
		Repair: nothing("systemd-machine-id-setup; an SR that hosts share cannot be attached before")}
	return []Problem{p}
}

// formerIdentity: this host was called otherwise, in this boot, when the volume
// was activated or opened. It stays usable, but other hosts and old records know it by that.
func (e *examination) formerIdentity(key sr.Key, f *finding) error {
	former := formerName(f.note, e.me)
	if former == "" {
		return nil
	}
	f.add(Problem{Kind: NoIdentity, Name: e.noteFile(key), Key: key, Note: true,
		Text:   fmt.Sprintf("this host had another identity, %s, when the volume was activated or opened; it is %s now", lease.Plain(former), e.me.UUID),
		Repair: nothing("the volume can be used and given back as it is; if INSTALLATION_UUID in /etc/xensource-inventory or /etc/machine-id was not changed on purpose, put it back")})
	return nil
}

// formerName is what this host was called when it noted something that still stands: "" if that is its name.
func formerName(note lease.Note, me hostinfo.Host) (former string) {
	for _, h := range note.Active {
		if h.Here(me) && h.Host != me.UUID {
			former = h.Host
		}
	}
	if note.Nonpersistent && note.Host != "" && note.Host != me.UUID {
		former = note.Host
	}
	return former
}
