package check

import (
	"reflinksr/internal/dirfs"
	"reflinksr/internal/filesystem"
	"reflinksr/sr"
)

// unchangeable: data or a record with an attribute that keeps it from being changed.
func (e *examination) unchangeable(key sr.Key, f *finding) error {
	for _, name := range []string{sr.Data(key), sr.Record(key)} {
		f.add(Unchangeable(e.s.Root, name, name, key)...)
	}
	return nil
}

// Unchangeable notes that a file of ours has an attribute that keeps it from being changed.
func Unchangeable(d *dirfs.Dir, name, path string, key sr.Key) []Problem {
	if fixed, err := filesystem.Fixed(d, name); err != nil || !fixed {
		return nil // gone meanwhile, or there are no attributes
	}
	return []Problem{{Kind: OddAttributes, Name: path, Key: key, Note: true,
		Text: "it has an attribute that keeps it from being changed or removed, which somebody set", Repair: nothing("chattr -i -a " + d.Join(name) + " when that is not wanted any more")}}
}
