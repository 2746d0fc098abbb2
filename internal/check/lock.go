package check

import "reflinksr/sr"

// lockFile: a lock file that nothing needs.
func (e *examination) lockFile(key sr.Key, f *finding) error {
	if !e.locked[key] || f.there || len(e.survey.staged[key]) > 0 {
		return nil
	}
	atWork, err := working(e.s, key)
	if err != nil || atWork {
		return err
	}
	if there, err := e.s.Locks.Exists(string(key)); err != nil || !there {
		return err
	}
	f.add(Problem{Kind: StaleLock, Name: ".reflinksr/locks/" + string(key), Key: key, Note: true, Repairable: true,
		Text: "a lock file of a volume that is no more", Repair: "removes it"})
	return nil
}
