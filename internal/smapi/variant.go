package smapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// variant is a struct of pointers, one for each constructor, of which one is not nil. In JSON
// it is a list of two: the constructor's name, and its argument.
type variant interface{ isVariant() }

func marshalVariant(v variant) ([]byte, error) {
	of := reflect.ValueOf(v)
	for i := range of.NumField() {
		if !of.Field(i).IsNil() {
			return json.Marshal([2]any{constructor(of.Type(), i), of.Field(i).Interface()})
		}
	}
	return nil, fmt.Errorf("smapi: %T has no constructor", v)
}

// unmarshalVariant reads data into what v points to.
func unmarshalVariant(data []byte, v any) error {
	var pair []json.RawMessage
	var name string
	if err := json.Unmarshal(data, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("a variant is a pair of a name and its argument, not a list of %d", len(pair))
	}
	if err := json.Unmarshal(pair[0], &name); err != nil {
		return err
	}
	into := reflect.ValueOf(v).Elem()
	into.SetZero()
	for i := range into.NumField() {
		if constructor(into.Type(), i) == name {
			argument := reflect.New(into.Type().Field(i).Type.Elem())
			into.Field(i).Set(argument)
			return json.Unmarshal(pair[1], argument.Interface())
		}
	}
	return fmt.Errorf("%.40q is no constructor of %s", name, nameOf(into.Type()))
}

func constructor(t reflect.Type, i int) string {
	name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
	return name
}
