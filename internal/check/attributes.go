package check

import (
	"errors"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/reflink"
	"reflinksr/sr"
	"reflinksr/volume"
)

// attributes: data without the attributes that a disk's data is made with, and data that cannot
// be opened as whoever uses the volume must.
func (e *examination) attributes(key sr.Key, f *finding) error {
	err := e.lookAtAttributes(key, f)
	if passing(err) {
		return err
	}
	if err != nil {
		f.damaged(sr.Data(key), key, err)
	}
	return nil
}

func (e *examination) lookAtAttributes(key sr.Key, f *finding) error {
	data, err := volume.OpenReceived(e.s, key, unix.O_RDONLY)
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
			Repair: nothing("its snapshots and clones have none either; a copy of its contents to a new disk has what the SR's option datacow says")})
	}
	limited, err := reflink.COWExtentsLimited(data)
	if err == nil && !limited {
		f.add(Problem{Kind: OddAttributes, Name: sr.Data(key), Key: key, Note: true,
			Text:   "it has no copy-on-write extent size hint: what is written after a snapshot takes more space than needed",
			Repair: nothing("the next snapshot of the volume sets it")})
	}
	return err
}
