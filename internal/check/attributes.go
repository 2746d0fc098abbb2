package check

import (
	"errors"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/reflink"
	"reflinksr/sr"
	"reflinksr/volume"
)

// lookAtData opens the data as whoever uses the volume must.
func (e *examination) lookAtData(key sr.Key, f *finding) error {
	data, err := volume.OpenData(e.s, key, unix.O_RDONLY)
	if errors.Is(err, fault.ErrVolumeNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer data.Close()
	if f.attrs, err = reflink.AttributesOf(data); err != nil {
		return err
	}
	if f.bare, err = reflink.Unchecked(data); err != nil {
		return err
	}
	f.looked = true
	if f.bare && !f.attrs.NoCOW {
		f.add(Problem{Kind: OddAttributes, Name: sr.Data(key), Key: key, Note: true,
			Text:   "its blocks have no checksums, though it is copied on write: it was made while the filesystem was mounted with nodatasum",
			Repair: Nothing("its snapshots and clones have none either; a copy of its contents to a new disk has what the SR's option datacow says")})
	}
	limited, err := reflink.COWExtentsLimited(data)
	if err == nil && !limited {
		f.add(Problem{Kind: OddAttributes, Name: sr.Data(key), Key: key, Note: true,
			Text:   "it has no copy-on-write extent size hint: what is written after a snapshot takes more space than needed",
			Repair: Nothing("the next snapshot of the volume sets it")})
	}
	return err
}
