package smapi

import (
	"reflect"
	"strconv"
	"strings"
)

// Kind is what a value is in JSON.
type Kind int

// The kinds of types.
const (
	Null    Kind = iota // null, the result of what has none
	Text                // a string
	Bool                // true or false
	Integer             // an int64: a number without a fraction
	Float               // a number
	Base64              // a string that is base64
	Map                 // an object of strings: (string * string) list of the interface
	List                // a list of the type Of[0]
	Pair                // a list of two, of the types Of
	Record              // an object with Fields
	Variant             // a list of the name of one of Fields, and a value of its type
	Enum                // a string, one of Names
)

// Type is a type of the interface.
type Type struct {
	Kind    Kind
	Name    string   // that it has in the interface, as "volume"; most have none
	Of      []Type   // of a List or Pair
	Fields  []Field  // of a Record or Variant
	Names   []string // of an Enum
	Least   *int64   // of an Integer
	Exactly *int64   // of an Integer
}

// Field is an argument of a call, a member of a record, or a case of a variant.
type Field struct {
	Name     string
	Type     Type
	Optional bool   // it is left out where it is absent, and never null
	Is       string // what it names: "sr", "key" (of a volume) or "uri"; "" if it is something else
	Item     string // what a fault.Error calls what it holds; its name, if nothing else is said
	About    string // a phrase for people; "" if the name says it
}

// String says what a value of the type must be, as in: argument "size" must be a whole number.
func (t Type) String() string {
	switch t.Kind {
	case Null:
		return "null"
	case Text:
		return "a string"
	case Bool:
		return "true or false"
	case Integer:
		return "a whole number"
	case Float:
		return "a number"
	case Base64:
		return "a string in base64"
	case Map:
		return "an object of strings"
	case List:
		return "a list"
	case Pair:
		return "a pair"
	case Variant:
		return "a pair of a name and its argument"
	case Enum:
		return "one of " + strings.Join(t.Names, ", ")
	}
	return "an object"
}

// described are the types of this package whose values are not what Go's type says alone.
type described interface{ describe() Type }

// typeOf is the interface's type that values of a type of this package have in JSON.
func typeOf(t reflect.Type) Type {
	if t.Kind() == reflect.Pointer {
		return typeOf(t.Elem())
	}
	switch of := reflect.Zero(t).Interface().(type) {
	case described:
		return of.describe()
	case variant:
		return Type{Kind: Variant, Name: nameOf(t), Fields: fieldsOf(t)}
	}
	switch t.Kind() {
	case reflect.String:
		return Type{Kind: Text}
	case reflect.Bool:
		return Type{Kind: Bool}
	case reflect.Int64:
		return Type{Kind: Integer}
	case reflect.Float64:
		return Type{Kind: Float}
	case reflect.Map:
		return Type{Kind: Map}
	case reflect.Slice:
		return Type{Kind: List, Of: []Type{typeOf(t.Elem())}}
	case reflect.Struct:
		return Type{Kind: Record, Name: nameOf(t), Fields: fieldsOf(t)}
	}
	panic("smapi: " + t.String() + " is no type of the interface") // TestTypes looks at all of them
}

// fieldsOf are the fields of a struct, in their order, with what their tags say: json the name,
// is, item, about and optional what Field has, least and exactly the bounds of a number.
func fieldsOf(t reflect.Type) []Field {
	fields := make([]Field, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		field := Field{Name: name, Type: typeOf(f.Type), Optional: options == "omitempty" || f.Tag.Get("optional") != "", Is: f.Tag.Get("is"), Item: f.Tag.Get("item"), About: f.Tag.Get("about")}
		field.Type.Least, field.Type.Exactly = number(f.Tag.Get("least")), number(f.Tag.Get("exactly"))
		if field.Item == "" {
			field.Item = field.Name
		}
		if field.About == "" {
			field.About = usually[field.Is]
		}
		fields = append(fields, field)
	}
	return fields
}

// usually is what a field is about whose tags say only what it names.
var usually = map[string]string{
	"sr":  "the SR, by what SR.attach answered",
	"key": "the volume, by its key",
	"uri": "the volume, by a URI that is among its own",
}

func number(text string) *int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil
	}
	return &n
}

// nameOf is the interface's name of a type, as query_result of QueryResult.
func nameOf(t reflect.Type) string {
	if named, ok := reflect.Zero(t).Interface().(interface{ typeName() string }); ok {
		return named.typeName()
	}
	return snake(t.Name())
}

func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		upper := r >= 'A' && r <= 'Z'
		begins := upper && i > 0 && (name[i-1] >= 'a' || i+1 < len(name) && name[i+1] >= 'a')
		if begins {
			b.WriteByte('_')
		}
		if upper {
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
