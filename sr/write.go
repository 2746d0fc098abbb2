package sr

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"reflect"
	"strings"

	"golang.org/x/sys/unix"
)

// recordLimit bounds what is read of a metadata file, in bytes. Names and
// descriptions have at most 64 KiB each, so no record of ours comes near.
const recordLimit = 1 << 20

// Replace durably gives the file name in dst the contents data, in pieces, old or new and
// nothing between: written to staging, fsynced, put in the old one's place,
// directory fsynced. On error the old contents stand, also when the last fsync
// fails. The caller holds the lock that covers name.
func (s *SR) Replace(dst *Dir, name string, data ...[]byte) error {
	temp := name + ".new"
	if err := s.Staging.Remove(temp); err != nil {
		return err
	}
	if err := s.Staging.WriteNew(temp, data...); err != nil {
		return err
	}
	return s.Commit(temp, dst, name)
}

// Commit puts the staged and fsynced file temp in the place of name in dst and
// makes that durable. On error name is as before. What name held until then, or
// temp on error, is removed.
func (s *SR) Commit(temp string, dst *Dir, name string) error {
	return s.CommitAnd(temp, dst, name, func() (func() error, error) { return func() error { return nil }, nil })
}

// CommitAnd is Commit of something together with something else in dst, which and does,
// and whose undo takes it back. If a crash parts the two, it is and that is missing.
func (s *SR) CommitAnd(temp string, dst *Dir, name string, and func() (undo func() error, err error)) (err error) {
	undone := error(nil)
	defer func() {
		// If undo failed, what temp holds now is the only copy of the old contents.
		if undone == nil {
			s.Staging.Remove(temp)
		}
	}()
	undo := func() error { return s.Staging.swap(temp, dst, name) }
	err = undo()
	switch {
	case errors.Is(err, os.ErrNotExist): // name is new
		err = s.Staging.Rename(temp, dst, name)
		undo = func() error { return dst.Rename(name, s.Staging, temp) }
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		// No RENAME_EXCHANGE here (NFS, OCFS2): the old contents go with the rename.
		err = s.Staging.Rename(temp, dst, name)
		undo = func() error { return nil }
	}
	if err != nil {
		return err
	}
	undoAnd, err := and()
	if err != nil {
		undone = undo()
		return errors.Join(err, undone)
	}
	if err := dst.Sync(); err != nil {
		if undone = undoAnd(); undone == nil {
			undone = undo()
		}
		return errors.Join(err, undone)
	}
	return nil
}

// WriteNew makes the new file name with the contents data, in pieces, fsynced. On error
// nothing is left. The entry in the directory is not yet durable.
func (d *Dir) WriteNew(name string, data ...[]byte) (err error) {
	f, err := d.Create(name)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			d.Remove(name)
		}
	}()
	w := bufio.NewWriter(f)
	for _, piece := range data {
		w.Write(piece) // Flush has the error
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

// Unknown holds the members of a JSON object that this version does not know, so
// that a writer can keep them.
type Unknown map[string]json.RawMessage

// DecodeRecord decodes a stored JSON object into known (a pointer to a struct)
// and returns all its members, for EncodeRecord. A member is known by exactly its
// name: encoding/json by itself takes one in any case, and with signs that fold to
// a letter, so that a member that is kept as unknown could outlive every change.
func DecodeRecord(data []byte, known any) (Unknown, error) {
	var all Unknown
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, err
	}
	if all == nil {
		return nil, fmt.Errorf("not a JSON object")
	}
	return all, decodeMembers(all, reflect.ValueOf(known).Elem())
}

func decodeMembers(all Unknown, known reflect.Value) error {
	for name, field := range members(known) {
		raw, there := all[name]
		if !there {
			continue
		}
		if err := decodeMember(raw, field); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func decodeMember(raw json.RawMessage, field reflect.Value) error {
	if field.Kind() == reflect.Pointer && string(raw) != "null" {
		field.Set(reflect.New(field.Type().Elem()))
		field = field.Elem()
	}
	if !isObject(field) {
		return json.Unmarshal(raw, field.Addr().Interface())
	}
	var all Unknown
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	return decodeMembers(all, field)
}

// members are the fields of a struct by their names in JSON.
func members(known reflect.Value) iter.Seq2[string, reflect.Value] {
	return func(yield func(string, reflect.Value) bool) {
		for i := range known.NumField() {
			name, _, _ := strings.Cut(known.Type().Field(i).Tag.Get("json"), ",")
			if name != "" && !yield(name, known.Field(i)) {
				return
			}
		}
	}
}

// isObject says whether a field is a struct that is an object in JSON; a time is none.
func isObject(field reflect.Value) bool {
	_, own := field.Addr().Interface().(json.Unmarshaler)
	return field.Kind() == reflect.Struct && !own
}

// EncodeRecord encodes known (a pointer to a struct) over the members that were
// read with it.
func EncodeRecord(known any, all Unknown) ([]byte, error) {
	data, err := marshal(known)
	if err != nil {
		return nil, err
	}
	merged := over(all, data)
	for name, field := range members(reflect.ValueOf(known).Elem()) {
		if field.Kind() == reflect.Pointer && !field.IsNil() {
			field = field.Elem()
		}
		var inner Unknown
		if isObject(field) && json.Unmarshal(all[name], &inner) == nil {
			if merged[name], err = marshal(over(inner, merged[name])); err != nil {
				return nil, err
			}
		}
	}
	data, err = marshal(merged)
	if err == nil && len(data) > recordLimit {
		err = Errorf(ErrInvalid, "record", "the metadata would have %d bytes, at most %d are allowed", len(data), recordLimit)
	}
	return data, err
}

// over puts the members of the object that data is over those of all.
func over(all Unknown, data []byte) Unknown {
	merged := maps.Clone(all)
	if merged == nil {
		merged = Unknown{}
	}
	json.Unmarshal(data, &merged) // of our own making
	return merged
}

// marshal is json.Marshal with a line's end, without escapes that only HTML needs:
// they make six bytes of one.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}
