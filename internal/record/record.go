package record

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"reflinksr/internal/fault"
)

// Unknown holds the members of a JSON object as they were read, so that a writer can keep
// those that it does not know, and what it does not change of those that it does: text
// that is not UTF-8, half a surrogate pair, digits that no number here has.
type Unknown []member

// member is one of them. Of several with the same name the last counts.
type member struct {
	name  string          // decoded
	raw   json.RawMessage // the name as it was written, in quotes
	value json.RawMessage // as it was written
}

// Decode decodes a stored JSON object into known (a pointer to a struct)
// and returns all its members, for Encode. A member is known by exactly its
// name: encoding/json by itself takes one in any case, and with signs that fold to
// a letter, so that a member that is kept as unknown could outlive every change.
func Decode(data []byte, known any) (Unknown, error) {
	all, err := parseMembers(data)
	if err != nil {
		return nil, err
	}
	return all, decodeMembers(data, reflect.ValueOf(known).Elem())
}

// Encode encodes known (a pointer to a struct) over the members that were
// read with it.
func Encode(known any, all Unknown) ([]byte, error) {
	merged, err := all.under(reflect.ValueOf(known).Elem())
	if err != nil {
		return nil, err
	}
	data, err := merged.encode()
	data = append(data, '\n')
	if err == nil && len(data) > Limit {
		err = fault.Errorf(fault.ErrInvalid, "record", "the metadata would have %d bytes, at most %d are allowed", len(data), Limit)
	}
	return data, err
}

// Only are the members with these names.
func (all Unknown) Only(names ...string) (some Unknown) {
	for _, m := range all {
		if slices.Contains(names, m.name) {
			some = append(some, m)
		}
	}
	return some
}

// last has the index of the member that counts, by its name. A record can have tens of
// thousands: none is looked for in the row of the others.
func (all Unknown) last() map[string]int {
	at := make(map[string]int, len(all))
	for i, m := range all {
		at[m.name] = i
	}
	return at
}

// under are the members with what a struct, or a map, has over them.
func (all Unknown) under(known reflect.Value) (Unknown, error) {
	data, err := marshal(known.Interface())
	if err != nil {
		return nil, err
	}
	now, err := parseMembers(data)
	if err != nil {
		return nil, err
	}
	fields := map[string]reflect.Value{}
	if known.Kind() == reflect.Struct {
		for name, field := range members(known) {
			fields[name] = field
		}
	} else {
		for _, m := range all { // a member of a map that is not in it any more has no value
			fields[m.name] = reflect.Value{}
		}
		for _, key := range known.MapKeys() {
			value := reflect.New(known.Type().Elem()).Elem()
			value.Set(known.MapIndex(key))
			fields[key.String()] = value
		}
	}
	was, is := all.last(), now.last()
	for i, m := range now {
		j, there := was[m.name]
		if !there {
			continue
		}
		if now[i].value, err = all[j].become(fields[m.name], m.value); err != nil {
			return nil, err
		}
	}
	for name, field := range fields {
		i, before := was[name]
		_, after := is[name]
		if before && !after && field.IsValid() && all[i].says(field) {
			delete(fields, name) // left out where it is zero, which it is: it stays as it was
		}
	}
	return all.over(now, func(name string) bool { _, known := fields[name]; return known }), nil
}

// says tells whether a member says what field does.
func (m member) says(field reflect.Value) bool {
	was := reflect.New(field.Type()).Elem()
	if decodeMember(m.value, was) != nil {
		return false
	}
	one, e1 := marshal(was.Interface())
	two, e2 := marshal(field.Interface())
	return e1 == nil && e2 == nil && bytes.Equal(one, two)
}

// become is a member's value when it is to say what field does, which is encoded already:
// as it was written if it says that.
func (m member) become(field reflect.Value, encoded json.RawMessage) (json.RawMessage, error) {
	if m.says(field) {
		return m.value, nil
	}
	if field.Kind() == reflect.Pointer && !field.IsNil() {
		field = field.Elem()
	}
	inner, err := parseMembers(m.value)
	if err != nil || !isObject(field) && (field.Kind() != reflect.Map || field.IsNil()) {
		return encoded, nil
	}
	merged, err := inner.under(field)
	if err != nil {
		return nil, err
	}
	return merged.encode()
}

// over are the members with now over those that are known, of which no others stay. Where
// one name is there several times, those that do not count go with a change.
func (all Unknown) over(now Unknown, known func(name string) bool) (merged Unknown) {
	was, is := all.last(), now.last()
	for i, m := range all {
		j, stays := is[m.name]
		last := was[m.name]
		switch {
		case !known(m.name):
			merged = append(merged, m)
		case !stays:
		case bytes.Equal(now[j].value, all[last].value):
			merged = append(merged, m)
		case i == last:
			merged = append(merged, member{m.name, m.raw, now[j].value})
		}
	}
	for _, m := range now {
		if _, there := was[m.name]; !there {
			merged = append(merged, m)
		}
	}
	return merged
}

// encode writes the members in the order of their names.
func (all Unknown) encode() ([]byte, error) {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b member) int { return strings.Compare(a.name, b.name) })
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range all {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(m.raw)
		b.WriteByte(':')
		if err := json.Compact(&b, m.value); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
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
