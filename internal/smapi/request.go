package smapi

import "reflect"

// Request is the arguments of a call, but for dbg, which all calls have: one of the structs of
// this package, which are named after their calls.
type Request interface {
	// Call is the name of the call, as "Volume.create".
	Call() string

	result() any // a zero value of what is answered
}

// Asks is a Request that is answered with a Result.
type Asks[Result any] interface {
	Request
	answered(Result)
}

// answers says, embedded in a request, what it is answered with.
type answers[Result any] struct{}

func (answers[Result]) result() any     { var r Result; return r }
func (answers[Result]) answered(Result) {}

// Debug is the argument that every call has before its own.
var Debug = Field{Name: "dbg", Type: Type{Kind: Text}, About: "the toolstack's task, for logs"}

// ArgumentsOf are the arguments of a request in the interface's order, dbg first.
func ArgumentsOf(r Request) []Field {
	return append([]Field{Debug}, fieldsOf(reflect.TypeOf(r))...)
}

// ResultOf is the type of what a request is answered with.
func ResultOf(r Request) Type { return typeOf(reflect.TypeOf(r.result())) }

// Unit is the result of a call that has none; null in JSON.
type Unit struct{}

// MarshalJSON is null.
func (Unit) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

func (Unit) describe() Type { return Type{Kind: Null} }

// Fill makes a request like r of the arguments that set gives: it is called for each argument in
// the interface's order, with a pointer to the field for it. The error is the first of set's.
func Fill(r Request, set func(argument Field, into any) error) (Request, error) {
	of := reflect.TypeOf(r)
	filled := reflect.New(of).Elem()
	arguments := fieldsOf(of)
	for i := range of.NumField() {
		if of.Field(i).Anonymous {
			continue
		}
		if err := set(arguments[0], filled.Field(i).Addr().Interface()); err != nil {
			return nil, err
		}
		arguments = arguments[1:]
	}
	return filled.Interface().(Request), nil
}

// Argument is the first of the named arguments of a request, nil included, that is a text and
// not empty; "" if there is none.
func Argument(r Request, names ...string) string {
	of := reflect.ValueOf(r)
	for _, name := range names {
		for i := 0; r != nil && i < of.NumField(); i++ {
			if f := of.Field(i); f.Kind() == reflect.String && f.Len() > 0 && of.Type().Field(i).Tag.Get("json") == name {
				return f.String()
			}
		}
	}
	return ""
}

// NewResult is a pointer to a zero value of what a request is answered with, to read one into.
func NewResult(r Request) any { return reflect.New(reflect.TypeOf(r.result())).Interface() }
