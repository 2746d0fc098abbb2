package check

import (
	"fmt"

	"reflinksr/datapath/lease"
	"reflinksr/internal/hostinfo"
	"reflinksr/sr"
)

// identity is what is wrong with this host's, as far as it matters to the SR.
func identity(s *sr.SR, me hostinfo.Host) []Problem {
	if !me.Nameless() {
		return nil
	}
	p := Problem{Kind: NoIdentity, Name: "/etc/machine-id", Note: !s.Meta.Filesystem.Clustered(),
		Text:   "this host has no identity but that of its boot: neither INSTALLATION_UUID in /etc/xensource-inventory nor a machine-id",
		Repair: Nothing("systemd-machine-id-setup; an SR that hosts share cannot be attached before")}
	return []Problem{p}
}

// formerIdentity notes that this host was called otherwise, in this boot, when the volume
// was activated or opened: it stays usable, but other hosts and old records know it by that.
func (e *examination) formerIdentity(key sr.Key, note lease.Note) []Problem {
	former := ""
	for _, h := range note.Active {
		if h.Here(e.me) && h.Host != e.me.UUID {
			former = h.Host
		}
	}
	if note.Nonpersistent && note.Host != "" && note.Host != e.me.UUID {
		former = note.Host
	}
	if former == "" {
		return nil
	}
	return []Problem{{Kind: NoIdentity, Name: e.noteFile(key), Key: key, Note: true,
		Text:   fmt.Sprintf("this host had another identity, %s, when the volume was activated or opened; it is %s now", lease.Plain(former), e.me.UUID),
		Repair: Nothing("the volume can be used and given back as it is; if INSTALLATION_UUID in /etc/xensource-inventory or /etc/machine-id was not changed on purpose, put it back")}}
}
