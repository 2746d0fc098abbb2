package cbt

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"reflinksr/internal/fault"
	"reflinksr/sr"
	"reflinksr/volume"
)

// DestroyedVolumes lists the volumes of which something is kept in SR.CBT.
func DestroyedVolumes(s *sr.SR) ([]sr.Key, error) {
	names, err := s.CBT.Names()
	var keys []sr.Key
	for _, name := range names {
		if k, err := sr.ParseKey(strings.TrimSuffix(name, sr.PendingCBT)); err == nil {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), err
}

// destroyedKin lists the relatives of a volume whose data was destroyed, oldest first,
// the volume itself included.
func destroyedKin(s *sr.SR, key sr.Key) ([]sr.Key, error) {
	all, err := DestroyedVolumes(s)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	line, err := ancestry(s, key)
	if err != nil {
		return nil, err
	}
	var family []sr.Key
	for _, k := range all {
		its, err := ancestry(s, k)
		if err != nil {
			return nil, err
		}
		if kin(line, its) {
			family = append(family, k)
		}
	}
	return inOrder(s, family)
}

// inOrder sorts those of the volumes whose data was destroyed by age, oldest first.
func inOrder(s *sr.SR, keys []sr.Key) ([]sr.Key, error) {
	records := map[sr.Key]*volume.Record{}
	var failed error
	keys = slices.DeleteFunc(slices.Clone(keys), func(k sr.Key) bool {
		r, err := volume.LoadForChange(s, k)
		records[k] = r
		if fault.Classify(err) == nil {
			failed = errors.Join(failed, err)
		}
		return err != nil || !r.DataDestroyed
	})
	slices.SortFunc(keys, func(a, b sr.Key) int {
		return cmp.Or(records[a].Older(records[b]), cmp.Compare(a, b))
	})
	return keys, failed
}
