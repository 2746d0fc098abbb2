package scripts

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"reflinksr/internal/smapi"
)

// checkShape says which field of a call's answer is not as the interface has it. A call that
// the interface does not have answers null.
func checkShape(method string, v any) error {
	of := smapi.Type{Kind: smapi.Null}
	if c := smapi.Find(method); c != nil {
		of = smapi.ResultOf(c.Request)
	}
	return checkType("", of, v)
}

// checkType says where in a value, at path, the value is not of a type of the interface, or
// nil. Unknown fields are allowed, as the caller does.
func checkType(path string, t smapi.Type, v any) error {
	switch t.Kind {
	case smapi.Null:
		if v != nil {
			return wrong(path, "null", v)
		}
		return nil
	case smapi.Text:
		return checkText(path, v)
	case smapi.Base64:
		return checkBase64(path, v)
	case smapi.Bool:
		if _, ok := v.(bool); !ok {
			return wrong(path, "true or false", v)
		}
		return nil
	case smapi.Integer:
		return checkInteger(path, t, v)
	case smapi.Float:
		n, _ := v.(json.Number)
		if _, err := n.Float64(); err != nil {
			return wrong(path, "a number", v)
		}
		return nil
	case smapi.Map:
		return checkMap(path, v)
	case smapi.List:
		return checkList(path, t, v)
	case smapi.Pair:
		return checkPair(path, t, v)
	case smapi.Record:
		return checkRecord(path, t, v)
	case smapi.Variant:
		return checkVariant(path, t, v)
	case smapi.Enum:
		if name, ok := v.(string); !ok || !slices.Contains(t.Names, name) {
			return wrong(path, "one of "+strings.Join(t.Names, ", "), v)
		}
		return nil
	}
	panic(fmt.Sprintf("there are no values of kind %d", t.Kind))
}

func wrong(path, want string, v any) error {
	if path == "" {
		path = "the answer"
	}
	is := encode(v)
	if s, ok := v.(string); ok {
		is = strconv.Quote(s)
	}
	return fmt.Errorf("%s is %s, want %s", path, shorten([]byte(is)), want)
}

func checkText(path string, v any) error {
	if _, ok := v.(string); !ok {
		return wrong(path, "a string", v)
	}
	return nil
}

func checkBase64(path string, v any) error {
	if err := checkText(path, v); err != nil {
		return err
	}
	if _, err := base64.StdEncoding.DecodeString(v.(string)); err != nil {
		return wrong(path, "base64", v)
	}
	return nil
}

// checkInteger wants an int64, whole: 1.0 is none to the caller.
func checkInteger(path string, t smapi.Type, v any) error {
	number, _ := v.(json.Number)
	n, err := strconv.ParseInt(string(number), 10, 64)
	switch {
	case err != nil:
		return wrong(path, "an int64", v)
	case t.Exactly != nil && n != *t.Exactly:
		return wrong(path, fmt.Sprintf("%d, which its readers take for granted", *t.Exactly), v)
	case t.Least != nil && n < *t.Least:
		return wrong(path, fmt.Sprintf("at least %d", *t.Least), v)
	}
	return nil
}

func checkMap(path string, v any) error {
	items, ok := v.(map[string]any)
	if !ok {
		return wrong(path, "an object of strings", v)
	}
	for _, name := range slices.Sorted(maps.Keys(items)) {
		if err := checkText(path+"."+name, items[name]); err != nil {
			return err
		}
	}
	return nil
}

func checkList(path string, t smapi.Type, v any) error {
	items, ok := v.([]any)
	if !ok {
		return wrong(path, "a list", v)
	}
	for i, item := range items {
		if err := checkType(fmt.Sprintf("%s[%d]", path, i), t.Of[0], item); err != nil {
			return err
		}
	}
	return nil
}

func checkPair(path string, t smapi.Type, v any) error {
	pair, ok := v.([]any)
	if !ok || len(pair) != 2 {
		return wrong(path, "a pair", v)
	}
	for i, item := range pair {
		if err := checkType(fmt.Sprintf("%s[%d]", path, i), t.Of[i], item); err != nil {
			return err
		}
	}
	return nil
}

// checkRecord wants all fields but options, which are left out where they are absent, never null.
func checkRecord(path string, t smapi.Type, v any) error {
	have, ok := v.(map[string]any)
	if !ok {
		return wrong(path, "an object", v)
	}
	for _, field := range t.Fields {
		value, ok := have[field.Name]
		switch {
		case !ok && field.Optional:
		case !ok:
			return fmt.Errorf("%s.%s is missing in %s", path, field.Name, shorten([]byte(encode(v))))
		default:
			if err := checkType(path+"."+field.Name, field.Type, value); err != nil {
				return err
			}
		}
	}
	if t.Name == "probe_result" {
		return checkProbed(path, have)
	}
	return nil
}

// checkProbed is what the caller wants of a probe_result besides its type, lest it refuse the
// whole probe: an SR that was found has its sr_uuid in a complete configuration.
func checkProbed(path string, result map[string]any) error {
	configuration := result["configuration"].(map[string]any)
	_, named := configuration["sr_uuid"]
	if _, found := result["sr"]; found && !named {
		return fmt.Errorf("%s.configuration has no sr_uuid, though there is an sr", path)
	}
	if named && result["complete"] != true {
		return fmt.Errorf("%s.complete is false, though the configuration has an sr_uuid", path)
	}
	return nil
}

// checkVariant wants ["Name", argument].
func checkVariant(path string, t smapi.Type, v any) error {
	var names []string
	for _, f := range t.Fields {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	known := strings.Join(names, ", ")
	if _, ok := v.(string); ok {
		return wrong(path, "one of "+known+" with its argument", v)
	}
	pair, ok := v.([]any)
	if !ok || len(pair) != 2 {
		return wrong(path, "a pair of a name ("+known+") and its argument", v)
	}
	for _, f := range t.Fields {
		if pair[0] == f.Name {
			return checkType(path+"[1]", f.Type, pair[1])
		}
	}
	return wrong(path+"[0]", "one of "+known, pair[0])
}
