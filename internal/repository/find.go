package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"reflinksr/internal/attached"
	"reflinksr/internal/fault"
)

// Known is what this host knows of an attached SR without a look at it.
type Known struct {
	SR               SR
	Path, UUID, Name string
	Interface        string // by which it was attached: SMAPIv1 or ""
}

// KnownSRs lists the SRs that are attached on this host, with what is known of them.
func KnownSRs(context.Context) (known []Known, err error) {
	handles, err := attached.Handles()
	if err != nil {
		return nil, err
	}
	for _, handle := range handles {
		a, err := attached.Find(handle)
		if errors.Is(err, fault.ErrNotAttached) {
			continue // it was detached meanwhile
		}
		if err != nil {
			return nil, err
		}
		known = append(known, Known{SR(handle), a.Path, a.UUID, a.Name, a.Interface})
	}
	return known, nil
}

// AttachedBy lists the SRs that are attached on this host by one of the toolstack's interfaces, SMAPIv1 or "".
func AttachedBy(ctx context.Context, by string) ([]SR, error) {
	known, err := KnownSRs(ctx)
	srs := []SR{}
	for _, k := range known {
		if k.Interface == by {
			srs = append(srs, k.SR)
		}
	}
	return srs, err
}

// Find is the attached SR that a person calls so: by its path, its UUID or its name. paths are what the text may be as the path
// of a directory, absolute, and below is asked for SRs within the last of these that are on one filesystem with it, and may be nil.
// A path comes before a UUID, and that before a name, since a name is anybody's. fault.ErrNotAttached if there is none,
// fault.ErrInvalid if there are several.
func Find(ctx context.Context, text string, paths []string, below func(sr string) bool) (SR, error) {
	known, err := KnownSRs(ctx)
	if err != nil {
		return "", err
	}
	found := matching(known, text, paths, below)
	if len(found) == 1 {
		return found[0].SR, nil
	}
	if len(found) == 0 && strings.Contains(text, "/") && len(paths) > 0 {
		return "", fault.Hint(fault.Errorf(fault.ErrNotAttached, text, "no SR is attached at %s on this host", paths[0]), "srctl ls lists those that are")
	}
	if len(found) == 0 {
		return "", fault.Hint(fault.Errorf(fault.ErrNotAttached, text, "no SR is attached at %q on this host, nor one with that name or UUID", fault.Shorten(text)), "srctl ls lists those that are")
	}
	var all []string
	for _, k := range found {
		all = append(all, k.Path)
	}
	return "", fault.Hint(fault.Errorf(fault.ErrInvalid, text, "%q may be several SRs: %s", fault.Shorten(text), strings.Join(all, ", ")), "name one by its path")
}

// matching are the SRs that a text may mean, in the first way in which it means any.
func matching(known []Known, text string, paths []string, below func(sr string) bool) (found []Known) {
	for _, means := range []func(Known) bool{
		func(k Known) bool { return slices.Contains(paths, k.Path) },
		func(k Known) bool { return strings.EqualFold(k.UUID, text) },
		func(k Known) bool { return text != "" && k.Name == text },
		func(k Known) bool { return below != nil && below(k.Path) },
	} {
		for _, k := range known {
			if means(k) {
				found = append(found, k)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// leastPrefix is how many characters of a key are enough to name a volume, if no other begins so.
const leastPrefix = 4

// Find is the volume of the SR that a person calls so: by its key, its beginning, or its name, which is that of a disk before those
// of its snapshots. fault.ErrVolumeNotFound if there is
// none, fault.ErrInvalid if there are several.
func (s SR) Find(ctx context.Context, text string) (Volume, error) {
	if key, err := ParseKey(strings.ToLower(text)); err == nil {
		return Volume{s, key}, nil
	}
	volumes, err := s.List(ctx)
	if err != nil {
		return Volume{}, err
	}
	found := called(volumes, text)
	switch {
	case len(found) == 1:
		return Volume{s, found[0].Key}, nil
	case len(found) == 0:
		return Volume{}, fault.Errorf(fault.ErrVolumeNotFound, text, "volume %q: no such volume: a volume is called by its key, at least %d characters of the beginning of that, or its name", fault.Shorten(text), leastPrefix)
	}
	var all []string
	for i, v := range found {
		if i == 10 {
			all = append(all, fmt.Sprintf("and %d more", len(found)-i))
			break
		}
		kind := "read-only"
		if v.ReadWrite {
			kind = "writable"
		}
		all = append(all, fmt.Sprintf("%s (%s, %q)", v.Key, kind, fault.Shorten(v.Name)))
	}
	return Volume{}, fault.Hint(fault.Errorf(fault.ErrInvalid, text, "%q may be several volumes: %s", fault.Shorten(text), strings.Join(all, ", ")), "name one by its key, or more of the beginning of that")
}

// called are the volumes that a text may mean: a name that another's key begins with is not the one or the other.
func called(volumes []VolumeStat, text string) (found []VolumeStat) {
	if text == "" {
		return nil
	}
	for _, v := range volumes {
		if v.Name == text || len(text) >= leastPrefix && strings.HasPrefix(string(v.Key), strings.ToLower(text)) {
			found = append(found, v)
		}
	}
	if disk := diskAmong(found); disk >= 0 {
		return found[disk : disk+1]
	}
	return found
}

// diskAmong is which of several volumes can be written to, if the others are read-only and have its name, as its snapshots do: -1
// if that is not so.
func diskAmong(found []VolumeStat) int {
	disk := -1
	for i, v := range found {
		switch {
		case v.Name != found[0].Name, v.ReadWrite && disk >= 0:
			return -1
		case v.ReadWrite:
			disk = i
		}
	}
	return disk
}
