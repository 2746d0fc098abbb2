package check

import (
	"errors"
	"fmt"

	"reflinksr/datapath/lease"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/sr"
)

// leases: a lease of a volume that is no more, of a holder that is none, or that cannot be read.
func (e *examination) leases(key sr.Key, f *finding) error {
	if !e.leased[key] {
		return nil
	}
	p := Problem{Kind: StaleLease, Name: ".reflinksr/leases/" + string(key), Key: key}
	l, err := lease.ReadFile(e.s, key)
	switch {
	case errors.Is(err, fault.ErrNewer):
		p.Kind, p.Text, p.Repair = NewerFormat, err.Error(), Nothing("update reflinksr on this host")
		f.add(p)
		return nil
	case errors.Is(err, fault.ErrDamaged) && f.there:
		p.Kind, p.Text, p.Repair = Damage, err.Error(), Nothing("nobody knows who has the volume: srctl lease break, when it is certain that nobody does")
		f.add(p)
		return nil
	case err != nil && !errors.Is(err, fault.ErrDamaged):
		return err
	}
	if !f.there {
		if there, err := e.s.Leases.Exists(string(key)); err != nil || !there || len(e.survey.staged[key]) > 0 {
			return err // gone meanwhile, or recovery takes it along
		}
		p.Text, p.Repairable, p.Repair = "a lease of a volume that is no more", true, "removes it"
		if data, err := e.s.Root.Exists(sr.Data(key)); err != nil || data {
			p.Repairable, p.Repair = false, Nothing("the volume's data is still there: see what is said of that")
		}
		f.add(p)
		return nil
	}
	for _, h := range l.Holders {
		if text := stale(h, f.note, h.Claim(e.me, hostinfo.ThisHardware, e.s.Meta.Filesystem), !e.s.Meta.Filesystem.Clustered()); text != "" {
			p.Text, p.Repairable, p.Repair = text, true, "takes this host's part of the lease back; those of other hosts stay"
			if !e.s.Meta.Filesystem.Clustered() {
				p.Repair = "removes whoever is not of this boot of this host from the lease; domains that have the volume here stay"
				// Since it was attached calls take it for that host's, as the toolstack expects.
				p.Note = e.survey.attached && h.Claim(e.me, hostinfo.ThisHardware, e.s.Meta.Filesystem) == lease.Elsewhere
			}
			f.add(p)
			return nil
		}
	}
	return nil
}

// stale says why a holder, which is that to this host, is none: "" if it is one. local: only this host can have the
// filesystem mounted.
func stale(h lease.Holder, note lease.Note, claim lease.Claim, local bool) string {
	switch claim {
	case lease.Elsewhere:
		if local {
			return fmt.Sprintf("a lease of another host, or of this one when it had another identity: %s; but only one host at a time can have this filesystem mounted, and that is this one", h)
		}
		return "" // only that host knows
	case lease.Over:
		return fmt.Sprintf("a lease of a former boot of this host: %s", h)
	}
	if own, active := note.Holder(h.Domain); active && own.Write == h.Write {
		return ""
	}
	return fmt.Sprintf("a lease of this host that nobody has here: %s", h)
}
