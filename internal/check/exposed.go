package check

import (
	"reflinksr/internal/layout"
	"reflinksr/sr"
)

// exposedFiles: a lease, a lock file or what is known of changed blocks that others than root
// can get at, or that is no file of ours.
func (e *examination) exposedFiles(key sr.Key, f *finding) error {
	s := e.s
	if s.Leases != nil {
		f.add(exposed(s, s.Leases, string(key), layout.ControlDir+"/leases/"+string(key), key)...)
	}
	if s.Locks != nil {
		f.add(exposed(s, s.Locks, string(key), layout.ControlDir+"/locks/"+string(key), key)...)
	}
	if s.CBT != nil {
		for _, name := range []string{string(key), string(key) + sr.PendingCBT} {
			f.add(exposed(s, s.CBT, name, layout.ControlDir+"/cbt/"+name, key)...)
		}
	}
	return nil
}
