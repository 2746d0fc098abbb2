package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"

	"golang.org/x/sys/unix"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/extent"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/snapshot/cbt"
	"reflinksr/sr"
	"reflinksr/volume"
)

// usage is what du tells of an SR. All sizes are in bytes.
type usage struct {
	Path       string  `json:"path"`
	Volumes    []space `json:"volumes"`
	Exclusive  int64   `json:"exclusive_bytes"` // of all volumes together
	FreeSpace  int64   `json:"free_space"`      // of the filesystem, whatever else is on it
	TotalSpace int64   `json:"total_space"`
}

// space is what a volume occupies.
type space struct {
	Key            sr.Key `json:"key"`
	Name           string `json:"name"`
	ReadWrite      bool   `json:"read_write"`
	VolumeType     string `json:"volume_type,omitempty"`
	VirtualSize    int64  `json:"virtual_size"`
	Allocated      int64  `json:"allocated_bytes"`
	SharedBytes    int64  `json:"shared_bytes"`
	ExclusiveBytes int64  `json:"exclusive_bytes"`
	GivesBack      int64  `json:"gives_back"`      // when it is destroyed, at least
	GivesBackMore  bool   `json:"gives_back_more"` // and what only snapshots without data share with it
	FreedBytes     int64  `json:"freed_bytes"`     // of a snapshot without data: that it has not any more
	LostBytes      int64  `json:"lost_bytes"`      // the same, by its name until 2026
	NoteBytes      int64  `json:"note_bytes"`      // of the file that says which
	Pending        bool   `json:"pending"`         // some of them may not have been given back yet
}

func du(args []string, out io.Writer) error {
	var asJSON bool
	args, err := parse("du", args, 0, 1, func(f *flag.FlagSet) { f.BoolVar(&asJSON, "json", false, "") })
	if err != nil {
		return err
	}
	var handles []string
	if len(args) == 0 {
		handles, err = attached.Handles()
	} else {
		handles = make([]string, 1)
		handles[0], err = handleOf(args[0])
	}
	if err != nil {
		return err
	}
	all, failed := []usage{}, error(nil)
	for _, handle := range handles {
		u, err := usageOf(handle)
		failed = errors.Join(failed, err)
		if u != nil {
			all = append(all, *u)
		}
	}
	if asJSON {
		return errors.Join(failed, printJSON(out, all))
	}
	for i, u := range all {
		if i > 0 {
			fmt.Fprintln(out)
		}
		if err := u.print(out); err != nil {
			return err
		}
	}
	return failed
}

// usageOf measures every volume; those that cannot be are left out, and are the error.
// It is nil of an SR that is not there.
func usageOf(handle string) (*usage, error) {
	s, err := sr.Open(handle, dirfs.Unlocked)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := s.MustMapExtents(); err != nil {
		return nil, err
	}
	u := &usage{Path: s.Path, Volumes: []space{}}
	if u.TotalSpace, u.FreeSpace, err = filesystem.Space(s.Root); err != nil {
		return nil, err
	}
	keys, err := volume.Keys(s)
	if err != nil {
		return nil, err
	}
	var failed error
	for _, key := range keys {
		v, err := spaceOf(s, key)
		if errors.Is(err, fault.ErrVolumeNotFound) {
			continue // destroyed meanwhile
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		u.Volumes = append(u.Volumes, v)
		u.Exclusive += v.ExclusiveBytes
	}
	return u, failed
}

func spaceOf(s *sr.SR, key sr.Key) (space, error) {
	v, err := volume.Describe(s, key)
	if err != nil {
		return space{}, err
	}
	f, err := volume.OpenData(s, key, unix.O_RDONLY)
	if err != nil {
		return space{}, err
	}
	defer f.Close()
	u, err := extent.UsageOf(f)
	if err != nil {
		return space{}, err
	}
	p := space{
		Key: key, Name: v.Name, ReadWrite: v.ReadWrite, VolumeType: v.VolumeType, VirtualSize: v.VirtualSize,
		Allocated: v.PhysicalUtilisation, SharedBytes: u.Shared, ExclusiveBytes: u.Exclusive, GivesBack: u.Exclusive,
	}
	if v.VolumeType == volume.CBTMetadata {
		r, err := cbt.MetadataUsageOf(s, key)
		if err != nil {
			return space{}, err
		}
		p.FreedBytes, p.NoteBytes, p.Pending = min(r.Freed, v.VirtualSize), r.Note, r.Pending
		p.LostBytes = p.FreedBytes
		p.GivesBack += r.Note
	}
	relatives, err := cbt.DestroyedRelatives(s, key)
	p.GivesBackMore = u.Shared > 0 && len(relatives) > 0
	return p, err
}

func (u usage) print(out io.Writer) error {
	fmt.Fprintln(out, oneLine(u.Path))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tMODE\tSIZE\tALLOCATED\tSHARED\tEXCLUSIVE\tGIVES BACK\tNAME")
	more := false
	for _, v := range u.Volumes {
		mode, name, back := modeOf(v.ReadWrite, v.VolumeType), oneLine(v.Name), volume.Bytes(v.GivesBack)
		if v.VolumeType == volume.CBTMetadata {
			name += fmt.Sprintf(" (data destroyed: %s freed, noted in %s)", volume.Bytes(v.FreedBytes), volume.Bytes(v.NoteBytes))
		}
		if v.GivesBackMore {
			back, more = back+" +", true
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.Key, mode, volume.Bytes(v.VirtualSize), volume.Bytes(v.Allocated), volume.Bytes(v.SharedBytes), volume.Bytes(v.ExclusiveBytes), back, name)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if more {
		fmt.Fprintln(out, "+: and what only snapshots without data share with it; they lose that then")
	}
	_, err := fmt.Fprintf(out, "%d volumes; %s are exclusive to one of them; %s of %s are free on the filesystem\n", len(u.Volumes), volume.Bytes(u.Exclusive), volume.Bytes(u.FreeSpace), volume.Bytes(u.TotalSpace))
	return err
}
