package smapi

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// The interface's own argument names, from its IDL (xapi-project/xen-api,
// ocaml/xapi-storage), without dbg.
var idl = map[string]string{
	"Plugin.query":               "",
	"Plugin.ls":                  "",
	"Plugin.diagnostics":         "",
	"SR.probe":                   "configuration",
	"SR.create":                  "uuid configuration name description",
	"SR.attach":                  "configuration",
	"SR.detach":                  "sr",
	"SR.destroy":                 "sr",
	"SR.stat":                    "sr",
	"SR.set_name":                "sr new_name",
	"SR.set_description":         "sr new_description",
	"SR.ls":                      "sr",
	"Volume.create":              "sr name description size sharable",
	"Volume.snapshot":            "sr key",
	"Volume.clone":               "sr key",
	"Volume.copy":                "sr key dest_sr",
	"Volume.destroy":             "sr key",
	"Volume.revert":              "sr snapshot key",
	"Volume.set_name":            "sr key new_name",
	"Volume.set_description":     "sr key new_description",
	"Volume.set":                 "sr key k v",
	"Volume.unset":               "sr key k",
	"Volume.resize":              "sr key new_size",
	"Volume.stat":                "sr key",
	"Volume.compare":             "sr key key2",
	"Volume.similar_content":     "sr key",
	"Volume.enable_cbt":          "sr key",
	"Volume.disable_cbt":         "sr key",
	"Volume.data_destroy":        "sr key",
	"Volume.list_changed_blocks": "sr key key2 offset length",
	"Volume.compose":             "sr key key2",
	"Datapath.open":              "uri persistent",
	"Datapath.attach":            "uri domain",
	"Datapath.activate":          "uri domain",
	"Datapath.activate_readonly": "uri domain",
	"Datapath.deactivate":        "uri domain",
	"Datapath.detach":            "uri domain",
	"Datapath.import_activate":   "uri domain",
	"Datapath.close":             "uri",
	"Data.copy":                  "uri domain remote blocklist",
	"Data.mirror":                "uri domain remote",
	"Data.stat":                  "operation",
	"Data.cancel":                "operation",
	"Data.destroy":               "operation",
	"Data.ls":                    "",
	"Task.stat":                  "id",
	"Task.cancel":                "id",
	"Task.destroy":               "id",
	"Task.ls":                    "",
}

func TestCallsAreTheInterfaces(t *testing.T) {
	have := map[string]bool{}
	for _, c := range Calls {
		want, ok := idl[c.Call()]
		if !ok || have[c.Call()] {
			t.Errorf("%s is no call of the interface, or is there twice", c.Call())
		}
		have[c.Call()] = true
		var names []string
		for _, a := range ArgumentsOf(c.Request) {
			names = append(names, a.Name)
		}
		if got := strings.Join(names, " "); got != strings.TrimSpace("dbg "+want) {
			t.Errorf("%s takes %q, the interface says dbg %s", c.Call(), got, want)
		}
		if c.About == "" || c.In == 0 {
			t.Errorf("%s is not described", c.Call())
		}
	}
	for name := range idl {
		if !have[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

// A request is named after its call, so that nobody has to look for it.
func TestRequestsAreNamedAfterTheirCalls(t *testing.T) {
	for _, c := range Calls {
		is := reflect.TypeOf(c.Request).Name()
		if plain := strings.NewReplacer(".", "", "_", "").Replace(c.Call()); !strings.EqualFold(is, plain) {
			t.Errorf("%s is the request of %s", is, c.Call())
		}
	}
}

// walk calls see for a type and those in it.
func walk(t Type, see func(Type)) {
	see(t)
	for _, of := range t.Of {
		walk(of, see)
	}
	for _, f := range t.Fields {
		walk(f.Type, see)
	}
}

// Every field has a name, options of the interface say so, and a value of each type in Go is
// one of the interface's in JSON.
func TestTypes(t *testing.T) {
	named := map[string]bool{}
	see := func(call string) func(Type) {
		return func(of Type) {
			named[of.Name] = true
			for _, f := range of.Fields {
				if f.Name == "" || f.Name == "-" {
					t.Errorf("%s: %s has a field without a name", call, of.Name)
				}
				if !slices.Contains([]string{"", "sr", "key", "uri"}, f.Is) {
					t.Errorf("%s: %s.%s is %q", call, of.Name, f.Name, f.Is)
				}
			}
		}
	}
	for _, c := range Calls {
		for _, a := range ArgumentsOf(c.Request) {
			walk(a.Type, see(c.Call()))
		}
		walk(ResultOf(c.Request), see(c.Call()))
	}
	for _, name := range strings.Fields("query_result sr_stat health probe_result volume volume_type blocklist changed_blocks backend operation status task") {
		if !named[name] {
			t.Errorf("there is no %s", name)
		}
	}
	for call, optional := range map[Request][]string{
		VolumeStat{}: {"uuid", "volume_type", "cbt_enabled"}, SRStat{}: {"uuid"}, DataStat{}: {"progress"},
	} {
		var are []string
		for _, f := range ResultOf(call).Fields {
			if f.Optional {
				are = append(are, f.Name)
			}
		}
		if !slices.Equal(are, optional) {
			t.Errorf("%s: options are %q, want %q", call.Call(), are, optional)
		}
	}
}

func TestResultsInJSON(t *testing.T) {
	id, half := "7", 0.5
	for _, tt := range []struct {
		value any
		want  string
	}{
		{Unit{}, "null"},
		{Health{Healthy, ""}, `["Healthy",""]`},
		{Volume{URI: []string{}, Keys: map[string]string{}}, `{"key":"","name":"","description":"","read_write":false,"sharable":false,"virtual_size":0,"physical_utilisation":0,"uri":[],"keys":{},"cbt_enabled":false}`},
		{Backend{[]Implementation{{XenDisk: &XenDisk{"/dev/x", map[string]string{}, "vbd"}}, {BlockDevice: &BlockDevice{"/dev/x"}}}},
			`{"implementations":[["XenDisk",{"params":"/dev/x","extra":{},"backend_type":"vbd"}],["BlockDevice",{"path":"/dev/x"}]]}`},
		{Operation{CopyV1: &id}, `["CopyV1","7"]`},
		{Blocklist{4096, []Range{{0, 2}}}, `{"blocksize":4096,"ranges":[[0,2]]}`},
		{Status{Progress: &half}, `{"failed":false,"complete":false,"progress":0.5}`},
		{Task{State: TaskState{Completed: &Completed{1, &TaskResult{UnitResult: &Unit{}}}}}, `{"id":"","debug_info":"","ctime":0,"state":["Completed",{"duration":1,"result":["UnitResult",null]}]}`},
	} {
		got, err := json.Marshal(tt.value)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s, %v; want %s", got, err, tt.want)
			continue
		}
		back := reflect.New(reflect.TypeOf(tt.value))
		if err := json.Unmarshal(got, back.Interface()); err != nil {
			t.Errorf("%s: %v", got, err)
		}
		if again, err := json.Marshal(back.Interface()); err != nil || string(again) != tt.want {
			t.Errorf("%s became %s, %v", got, again, err)
		}
	}
	for _, bad := range []string{`["Tape",{}]`, `["XenDisk"]`, `"XenDisk"`, `[1,2]`, `{}`} {
		if err := json.Unmarshal([]byte(bad), new(Implementation)); err == nil {
			t.Errorf("%s is an implementation", bad)
		}
	}
}

func TestBackendPath(t *testing.T) {
	for answer, want := range map[string]string{
		`[["XenDisk",{"params":"p","extra":{},"backend_type":"vbd"}],["BlockDevice",{"path":"/dev/x"}],["BlockDevice",{"path":"/dev/y"}]]`: "/dev/x",
		`[["File",{"path":"/a"}],["File",{"path":"/b"}],["BlockDevice",{"path":"/dev/x"}]]`:                                                "/dev/x",
		`[["Nbd",{"uri":"u"}],["File",{"path":"/a"}],["File",{"path":"/b"}]]`:                                                              "/a",
		`[]`: "",
	} {
		var b Backend
		if err := json.Unmarshal([]byte(`{"implementations":`+answer+`}`), &b); err != nil || b.Path() != want {
			t.Errorf("%s: %q, %v; want %q", answer, b.Path(), err, want)
		}
	}
}

func TestFind(t *testing.T) {
	if c := Find("VOLUME.Compare"); c == nil || c.Call() != "Volume.compare" {
		t.Errorf("%v", c)
	}
	if c := Find("Volume.compares"); c != nil {
		t.Errorf("%v", c)
	}
	for name, want := range map[string]Plugins{
		"SR.ls": InVolume, "volume.compare": InVolume, "Datapath.attach": InDatapath, "data.COPY": InDatapath, "Task.ls": InVolume, "Plugin.Query": InVolume | InDatapath,
		"SR.scan": InVolume, "reflinksr": 0, "srctl.exe": 0, "Volume.": 0, "x.y": 0, "Volume.create~": 0, ".x": 0,
	} {
		if got := PluginsOf(name); got != want || IsName(name) != (want != 0) {
			t.Errorf("%s is in %v, want %v", name, got, want)
		}
	}
}

func TestFeaturesOf(t *testing.T) {
	offered := []string{"Volume.resize", "Datapath.open"}
	for _, tt := range []struct {
		in     Plugins
		claims []string
		want   []string
	}{
		{InVolume, nil, []string{"VDI_RESIZE"}},
		{InVolume, []string{"VDI_RESIZE_ONLINE", "LARGE_VDI"}, []string{"VDI_RESIZE", "VDI_RESIZE_ONLINE"}},
		{InDatapath, nil, []string{"NONPERSISTENT"}},
	} {
		if got := FeaturesOf(tt.in, offered, tt.claims...); !slices.Equal(got, tt.want) {
			t.Errorf("%v, claiming %q: %q, want %q", tt.in, tt.claims, got, tt.want)
		}
	}
}

func TestParseFailure(t *testing.T) {
	const good = `{"code":"SR_BACKEND_FAILURE_24","params":["","s","l"],"backtrace":{"error":"e","files":[],"lines":[]}}`
	f, err := ParseFailure([]byte(good))
	if err != nil || !f.IsNamed("24") || f.IsNamed("2") || f.Backtrace.Error != "e" {
		t.Errorf("%v, %v", f, err)
	}
	for _, missing := range []string{`"code":"SR_BACKEND_FAILURE_24",`, `"params":["","s","l"],`, `"error":"e",`, `"files":[],`, `,"lines":[]`} {
		if f, err := ParseFailure([]byte(strings.Replace(good, missing, "", 1))); err == nil {
			t.Errorf("without %s it is %v", missing, f)
		}
	}
	named := Named(Unimplemented, "Volume.compare", "letter")
	if data, err := json.Marshal(named); err != nil || string(data) != `{"code":"SR_BACKEND_FAILURE","params":["Unimplemented","Volume.compare"],"backtrace":{"error":"letter","files":[],"lines":[]}}` {
		t.Errorf("%s, %v", data, err)
	}
	if !named.IsNamed(Unimplemented) {
		t.Errorf("%v", named)
	}
}
