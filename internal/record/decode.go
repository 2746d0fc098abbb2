package record

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// parseMembers takes an object apart.
func parseMembers(data []byte) (Unknown, error) {
	if !json.Valid(data) {
		return nil, json.Unmarshal(data, new(json.RawMessage)) // which tells what is wrong
	}
	rest := skip(data, "")
	if rest[0] != '{' {
		return nil, errors.New("not a JSON object")
	}
	all := make(Unknown, 0, 16)
	for rest = skip(rest[1:], ""); rest[0] != '}'; rest = skip(rest, ",") {
		var m member
		m.raw, rest = cutValue(rest)
		m.value, rest = cutValue(skip(rest, ":"))
		if m.name = string(m.raw[1 : len(m.raw)-1]); strings.ContainsFunc(m.name, odd) {
			if err := json.Unmarshal(m.raw, &m.name); err != nil {
				return nil, err
			}
		}
		all = append(all, m)
	}
	return all, nil
}

// skip leaves out white space, and the signs in also, that data begins with.
func skip(data []byte, also string) []byte {
	for i, c := range data {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' && strings.IndexByte(also, c) < 0 {
			return data[i:]
		}
	}
	return nil
}

// odd says whether a character of a string in JSON may stand for another.
func odd(r rune) bool { return r == '\\' || r >= utf8.RuneSelf }

// cutValue cuts off the value that valid JSON begins with.
func cutValue(data []byte) (value, rest []byte) {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
			continue
		case c == '"':
			quoted = !quoted
		case quoted:
			continue
		case c == '{', c == '[':
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			depth--
		case depth == 0 && strings.IndexByte(",:}] \t\r\n", c) >= 0: // a number or a word ends before it
			return data[:i], data[i:]
		default:
			continue
		}
		if depth == 0 && !quoted {
			return data[:i+1], data[i+1:]
		}
	}
	return data, nil
}

// Peek is Decode for who will not write the object: it keeps nothing of data.
func Peek(data []byte, known any) error {
	if !json.Valid(data) {
		return json.Unmarshal(data, new(json.RawMessage)) // which tells what is wrong
	}
	return decodeMembers(data, reflect.ValueOf(known).Elem())
}

// decodeMembers decodes an object, which is valid.
func decodeMembers(data []byte, known reflect.Value) error {
	rest := skip(data, "")
	if rest[0] != '{' {
		return errors.New("not a JSON object")
	}
	names := namesOf(known.Type())
	var room [24][]byte
	values := room[:]
	if len(names) > len(values) {
		values = make([][]byte, len(names))
	}
	for rest = skip(rest[1:], ""); rest[0] != '}'; rest = skip(rest, ",") {
		var name, value []byte
		name, rest = cutValue(rest)
		value, rest = cutValue(skip(rest, ":"))
		i, err := indexOf(names, name)
		if err != nil {
			return err
		}
		if i >= 0 {
			values[i] = value // of several the last counts
		}
	}
	for i, name := range names {
		if values[i] == nil {
			continue
		}
		if err := decodeMember(values[i], known.Field(i)); err != nil {
			return errors.New(name + ": " + err.Error())
		}
	}
	return nil
}

// indexOf finds a name as it was written, in quotes: -1 if it is none of those.
func indexOf(names []string, quoted []byte) (int, error) {
	plain := quoted[1 : len(quoted)-1]
	if bytes.ContainsFunc(plain, odd) {
		var name string
		if err := json.Unmarshal(quoted, &name); err != nil {
			return -1, err
		}
		plain = []byte(name)
	}
	return slices.IndexFunc(names, func(name string) bool { return name != "" && name == string(plain) }), nil
}

func decodeMember(raw json.RawMessage, field reflect.Value) error {
	if field.Kind() == reflect.Pointer && string(raw) != "null" {
		field.Set(reflect.New(field.Type().Elem()))
		field = field.Elem()
	}
	into := field.Addr().Interface()
	if own, is := into.(json.Unmarshaler); is {
		return own.UnmarshalJSON(raw)
	}
	if _, is := into.(encoding.TextUnmarshaler); !is && decodePlain(raw, field) {
		return nil
	}
	if !isObject(field) {
		return json.Unmarshal(raw, into)
	}
	return decodeMembers(raw, field)
}

// decodePlain is json.Unmarshal of what nearly all members are: a text without escapes, a truth value, an integer, an empty object.
// A scan has 10,000 records of ten members, and for each of these Unmarshal would check the syntax once more.
func decodePlain(raw []byte, field reflect.Value) bool {
	switch kind, first := field.Kind(), raw[0]; {
	case kind == reflect.String && first == '"':
		for _, c := range raw[1 : len(raw)-1] {
			if c == '\\' || c >= utf8.RuneSelf {
				return false
			}
		}
		field.SetString(string(raw[1 : len(raw)-1]))
	case kind == reflect.Bool && (first == 't' || first == 'f'):
		field.SetBool(first == 't')
	case (kind == reflect.Int64 || kind == reflect.Int) && (first == '-' || first >= '0' && first <= '9'):
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil || field.OverflowInt(n) {
			return false
		}
		field.SetInt(n)
	case kind == reflect.Map && string(raw) == "{}":
		if field.IsNil() {
			field.Set(reflect.MakeMap(field.Type()))
		}
	default:
		return false
	}
	return true
}

// fieldNames has what the fields of a struct are called in JSON, by its type.
var fieldNames sync.Map

func namesOf(t reflect.Type) []string {
	if names, known := fieldNames.Load(t); known {
		return names.([]string)
	}
	names := make([]string, t.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	fieldNames.Store(t, names)
	return names
}

// members are the fields of a struct by their names in JSON.
func members(known reflect.Value) iter.Seq2[string, reflect.Value] {
	return func(yield func(string, reflect.Value) bool) {
		for i, name := range namesOf(known.Type()) {
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
