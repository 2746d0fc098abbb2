package check

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/snapshot/cbt"
	"reflinksr/sr"
	"reflinksr/volume"
)

// ExamineDestroyed looks at what is kept of volumes whose data was destroyed: of those that
// ExamineVolumes found, and of any other. It writes nothing. As there, a problem is one
// only if it is still there while no call changes what is looked at.
func ExamineDestroyed(s *sr.SR, destroyed []sr.Key) ([]Problem, error) {
	problems, err := lookAtNotes(s, destroyed)
	if err != nil || len(problems) == 0 {
		return nil, err
	}
	release, busy, err := quietCBT(s)
	if err != nil {
		return nil, err
	}
	defer release()
	if problems, err = lookAtNotes(s, destroyed); err != nil {
		return nil, err
	}
	for i, p := range problems {
		problems[i] = p.during(busy)
	}
	return problems, nil
}

func lookAtNotes(s *sr.SR, keys []sr.Key) (problems []Problem, err error) {
	keys = slices.Clone(keys)
	if s.CBT != nil {
		noted, err := cbt.DestroyedVolumes(s)
		if err != nil {
			return nil, err
		}
		keys = append(keys, noted...)
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		found, err := lookAtNote(s, key)
		if err != nil {
			return nil, err
		}
		problems = append(problems, found...)
	}
	return problems, nil
}

func lookAtNote(s *sr.SR, key sr.Key) ([]Problem, error) {
	const dir = ".reflinksr/cbt/"
	r, err := volume.Load(s, key)
	gone := errors.Is(err, fault.ErrVolumeNotFound)
	if fault.Unseen(err) && !fault.IsIO(err) {
		return nil, err
	}
	if err != nil && !gone || !gone && r.Format > layout.Format {
		return nil, nil // ExamineVolumes tells, and nobody knows whether this is needed
	}
	if gone || !r.DataDestroyed {
		return staleNotes(s, key, gone)
	}
	damage := func(text string) ([]Problem, error) {
		return []Problem{{Kind: Damage, Name: dir + string(key), Key: key, Text: text,
			Repair: nothing("restore it from a backup of this directory, or make a full backup of the disk and destroy this volume")}}, nil
	}
	if s.CBT == nil {
		return damage("the volume's data was destroyed, and what tells of changed blocks is missing")
	}
	data, err := volume.OpenReceived(s, key, unix.O_RDONLY)
	if fault.Unseen(err) && !fault.IsIO(err) {
		return nil, err
	}
	if err != nil {
		return nil, nil // ExamineVolumes tells
	}
	data.Close()
	pending, err := cbt.Pending(s, key)
	switch {
	case errors.Is(err, fault.ErrDamaged):
		return damage(err.Error())
	case errors.Is(err, fault.ErrVolumeNotFound):
		return nil, nil // meanwhile
	case err != nil:
		return nil, err
	}
	if !pending {
		return nil, nil
	}
	return []Problem{{Kind: Unfinished, Name: dir + string(key) + sr.PendingCBT, Key: key, Repairable: true,
		Text: "the volume's data was destroyed, and a call was interrupted while it gave space back", Repair: "gives the space back"}}, nil
}

// staleNotes are those of a volume that is no more, or that has its data.
func staleNotes(s *sr.SR, key sr.Key, gone bool) (problems []Problem, err error) {
	for _, name := range []string{string(key), string(key) + sr.PendingCBT} {
		if s.CBT == nil {
			break
		}
		there, err := s.CBT.Exists(name)
		if err != nil {
			return nil, err
		}
		if !there {
			continue
		}
		p := Problem{Kind: StaleNote, Name: ".reflinksr/cbt/" + name, Key: key, Repairable: true, Repair: "removes it"}
		switch {
		case gone:
			p.Text = "what a destroyed snapshot knows of its blocks, of a volume that is no more"
		case name == string(key):
			p.Text = "what a destroyed snapshot knows of its blocks, of a volume whose record says that it has its data: an older record was restored, perhaps, then blocks may be missing from the data"
			p.Repairable, p.Repair = false, nothing("compare the data with a backup; then remove the file, or restore the newer record")
		default:
			p.Kind, p.Text = Unfinished, "left by a destruction of data that was interrupted before its commit: the volume has its data"
		}
		problems = append(problems, p)
	}
	return problems, nil
}

// RepairDestroyed is Recover for an SR that need not be attached.
func RepairDestroyed(path, uuid string) error {
	s, err := sr.OpenAt(path, uuid, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := cbt.RecoverAll(s); err != nil {
		return fmt.Errorf("destroyed data: %w", err)
	}
	return nil
}
