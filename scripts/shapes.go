package scripts

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// shape is a type of the interface. It says where in a value, at path, the value
// is not of that type, or nil. Unknown fields are allowed, as the caller does.
type shape func(path string, v any) error

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

func unit(path string, v any) error {
	if v != nil {
		return wrong(path, "null", v)
	}
	return nil
}

func text(path string, v any) error {
	if _, ok := v.(string); !ok {
		return wrong(path, "a string", v)
	}
	return nil
}

func truth(path string, v any) error {
	if _, ok := v.(bool); !ok {
		return wrong(path, "true or false", v)
	}
	return nil
}

// int64s are whole: 1.0 is none to the caller.
func integer(path string, v any) error {
	n, ok := v.(json.Number)
	if ok {
		_, err := strconv.ParseInt(string(n), 10, 64)
		ok = err == nil
	}
	if !ok {
		return wrong(path, "an int64", v)
	}
	return nil
}

// atLeast is an integer that is not less.
func atLeast(least int64) shape {
	return func(path string, v any) error {
		if err := integer(path, v); err != nil {
			return err
		}
		if n, _ := v.(json.Number).Int64(); n < least {
			return wrong(path, fmt.Sprintf("at least %d", least), v)
		}
		return nil
	}
}

var natural, positive = atLeast(0), atLeast(1)

// granularity is of a bitmap that the toolstack passes on alone: whoever reads it
// takes a bit for 64 KiB.
func granularity(path string, v any) error {
	if v != json.Number("65536") {
		return wrong(path, "65536, which readers of the bitmap take for granted", v)
	}
	return nil
}

// bits are base64.
func bits(path string, v any) error {
	if err := text(path, v); err != nil {
		return err
	}
	if _, err := base64.StdEncoding.DecodeString(v.(string)); err != nil {
		return wrong(path, "base64", v)
	}
	return nil
}

func number(path string, v any) error {
	if _, ok := v.(json.Number); !ok {
		return wrong(path, "a number", v)
	}
	return nil
}

// all is a type that is each of several.
func all(shapes ...shape) shape {
	return func(path string, v any) error {
		for _, of := range shapes {
			if err := of(path, v); err != nil {
				return err
			}
		}
		return nil
	}
}

// probed is what the caller wants of a probe_result besides its type, lest it refuse
// the whole probe: an SR that was found has its sr_uuid in a complete configuration.
func probed(path string, v any) error {
	result := v.(map[string]any)
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

func list(of shape) shape {
	return func(path string, v any) error {
		items, ok := v.([]any)
		if !ok {
			return wrong(path, "a list", v)
		}
		for i, item := range items {
			if err := of(fmt.Sprintf("%s[%d]", path, i), item); err != nil {
				return err
			}
		}
		return nil
	}
}

// dictionary is (string * string) list, an object on the wire.
func dictionary(path string, v any) error {
	items, ok := v.(map[string]any)
	if !ok {
		return wrong(path, "an object of strings", v)
	}
	for _, name := range slices.Sorted(maps.Keys(items)) {
		if err := text(path+"."+name, items[name]); err != nil {
			return err
		}
	}
	return nil
}

// record has the fields; a name that ends in ? is an option, which is left out
// where it is absent, never null.
func record(fields map[string]shape) shape {
	return func(path string, v any) error {
		have, ok := v.(map[string]any)
		if !ok {
			return wrong(path, "an object", v)
		}
		for _, field := range slices.Sorted(maps.Keys(fields)) {
			name, optional := strings.CutSuffix(field, "?")
			value, ok := have[name]
			switch {
			case !ok && optional:
			case !ok:
				return fmt.Errorf("%s.%s is missing in %s", path, name, shorten([]byte(encode(v))))
			default:
				if err := fields[field](path+"."+name, value); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// variant is ["Name", argument]; a constructor without an argument is the bare string.
func variant(cases map[string]shape) shape {
	return func(path string, v any) error {
		names := strings.Join(slices.Sorted(maps.Keys(cases)), ", ")
		if name, ok := v.(string); ok {
			if of, known := cases[name]; !known || of != nil {
				return wrong(path, "one of "+names, v)
			}
			return nil
		}
		pair, ok := v.([]any)
		if !ok || len(pair) != 2 {
			return wrong(path, "a pair of a name ("+names+") and its argument", v)
		}
		name, _ := pair[0].(string)
		of, known := cases[name]
		if !known || of == nil {
			return wrong(path+"[0]", "one of "+names, pair[0])
		}
		return of(path+"[1]", pair[1])
	}
}

// pairOf is a tuple of two.
func pairOf(a, b shape) shape {
	return func(path string, v any) error {
		pair, ok := v.([]any)
		if !ok || len(pair) != 2 {
			return wrong(path, "a pair", v)
		}
		if err := a(path+"[0]", pair[0]); err != nil {
			return err
		}
		return b(path+"[1]", pair[1])
	}
}

// The types of the interface, version 5 (xapi-project/xen-api, ocaml/xapi-storage).
var (
	queryResult = record(map[string]shape{
		"plugin": text, "name": text, "description": text, "vendor": text, "copyright": text, "version": text,
		"required_api_version": text, "features": list(text), "configuration": dictionary, "required_cluster_stack": list(text),
	})
	health = pairOf(func(path string, v any) error {
		switch v {
		case "Healthy", "Recovering", "Unreachable", "Unavailable":
			return nil
		}
		return wrong(path, "Healthy, Recovering, Unreachable or Unavailable", v)
	}, text)
	srStat = record(map[string]shape{
		"sr": text, "uuid?": text, "name": text, "description": text, "free_space": integer, "total_space": integer,
		"datasources": list(text), "clustered": truth, "health": health,
	})
	volumeRecord = record(map[string]shape{
		"key": text, "uuid?": text, "name": text, "description": text, "read_write": truth, "sharable": truth,
		"virtual_size": integer, "physical_utilisation": integer, "uri": list(text), "keys": dictionary,
		"volume_type?": variant(map[string]shape{"Data": nil, "CBT_Metadata": nil, "Data_and_CBT_Metadata": nil}), "cbt_enabled?": truth,
	})
	probeResult = all(
		record(map[string]shape{"configuration": dictionary, "complete": truth, "sr?": srStat, "extra_info": dictionary}),
		probed,
	)
	backend = record(map[string]shape{"implementations": list(variant(map[string]shape{
		"XenDisk":     record(map[string]shape{"params": text, "extra": dictionary, "backend_type": text}),
		"BlockDevice": record(map[string]shape{"path": text}),
		"File":        record(map[string]shape{"path": text}),
		"Nbd":         record(map[string]shape{"uri": text}),
	}))})
	blocklist     = record(map[string]shape{"blocksize": positive, "ranges": list(pairOf(natural, positive))})
	changedBlocks = record(map[string]shape{"granularity": granularity, "bitmap": bits})
	operation     = variant(map[string]shape{"CopyV1": text, "MirrorV1": text})
	status        = record(map[string]shape{"failed": truth, "complete": truth, "progress?": number})
	task          = record(map[string]shape{"id": text, "debug_info": text, "ctime": number, "state": variant(map[string]shape{
		"Pending":   number,
		"Completed": record(map[string]shape{"duration": number, "result?": variant(map[string]shape{"UnitResult": unit, "Volume": volumeRecord})}),
		"Failed":    text,
	})})
)

// shapes are the results of the calls; what is not here answers null.
var shapes = map[string]shape{
	"Plugin.query": queryResult, "Plugin.Query": queryResult, "Plugin.ls": list(text), "Plugin.diagnostics": text,
	"SR.probe": list(probeResult), "SR.create": dictionary, "SR.attach": text, "SR.stat": srStat, "SR.ls": list(volumeRecord),
	"Volume.create": volumeRecord, "Volume.snapshot": volumeRecord, "Volume.clone": volumeRecord, "Volume.copy": volumeRecord,
	"Volume.stat": volumeRecord, "Volume.compare": blocklist, "Volume.similar_content": list(text), "Volume.list_changed_blocks": changedBlocks,
	"Datapath.attach": backend, "Datapath.import_activate": text,
	"Data.copy": operation, "Data.mirror": operation, "Data.stat": status, "Data.ls": list(operation), "Task.stat": task, "Task.ls": list(text),
}

// checkShape says which field of a call's answer is not as the interface has it.
func checkShape(method string, v any) error {
	of, ok := shapes[method]
	if !ok {
		of = unit
	}
	return of("", v)
}
