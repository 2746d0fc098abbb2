package scripts

import (
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"reflinksr/internal/smapi"
	"reflinksr/internal/smapi/invoke"
)

func TestShapes(t *testing.T) {
	const volume = `{"key":"k","name":"n","description":"","read_write":true,"sharable":false,"virtual_size":1,"physical_utilisation":0,"uri":["u"],"keys":{"a":"b"}}`
	const stat = `{"sr":"s","name":"n","description":"","free_space":1,"total_space":2,"datasources":[],"clustered":false,"health":["Healthy",""]}`
	with := func(s, old, new string) string { return strings.Replace(s, old, new, 1) }
	for _, tt := range []struct{ method, answer, says string }{
		{"Volume.stat", volume, ""},
		{"Volume.stat", with(volume, `"key"`, `"more":1,"uuid":"u","volume_type":"Data","cbt_enabled":true,"key"`), ""},
		{"SR.ls", "[" + volume + "]", ""},
		{"SR.ls", "[]", ""},
		{"SR.stat", stat, ""},
		{"Volume.destroy", "null", ""},
		{"SR.probe", `[{"configuration":{"path":"p","sr_uuid":"u"},"complete":true,"sr":` + stat + `,"extra_info":{}}]`, ""},
		{"Datapath.attach", `{"implementations":[["XenDisk",{"params":"p","extra":{},"backend_type":"vbd"}],["BlockDevice",{"path":"p"}]]}`, ""},
		{"SR.probe", `[{"configuration":{"device":"d"},"complete":false,"extra_info":{}}]`, ""},
		{"Data.copy", `["CopyV1","1"]`, ""},
		{"Data.stat", `{"failed":false,"complete":false,"progress":0.5}`, ""},
		{"Task.stat", `{"id":"1","debug_info":"","ctime":1.5,"state":["Completed",{"duration":1,"result":["UnitResult",null]}]}`, ""},
		{"Volume.compare", `{"blocksize":4096,"ranges":[[0,1],[5,2]]}`, ""},
		{"Volume.compare", `{"blocksize":4096,"ranges":[]}`, ""},
		{"Volume.list_changed_blocks", `{"granularity":65536,"bitmap":"gAA="}`, ""},
		{"Volume.list_changed_blocks", `{"granularity":65536,"bitmap":""}`, ""},
		{"Volume.similar_content", `["k"]`, ""},
		{"Volume.stat", with(volume, `"key"`, `"volume_type":"CBT_Metadata","key"`), ""},
		{"Volume.data_destroy", "null", ""},

		{"Volume.compare", `{"blocksize":0,"ranges":[]}`, ".blocksize is 0, want at least 1"},
		{"Volume.compare", `{"blocksize":4096,"ranges":[[-1,1]]}`, ".ranges[0][0] is -1"},
		{"Volume.compare", `{"blocksize":4096,"ranges":[[1,0]]}`, ".ranges[0][1] is 0"},
		{"Volume.compare", `{"blocksize":4096,"ranges":[[1]]}`, "want a pair"},
		{"Volume.compare", `{"blocksize":4096,"ranges":null}`, "want a list"},
		{"Volume.list_changed_blocks", `{"granularity":4096,"bitmap":"gAA="}`, ".granularity is 4096, want 65536"},
		{"Volume.list_changed_blocks", `{"granularity":65536,"bitmap":"gAA"}`, `.bitmap is "gAA", want base64`},
		{"Volume.list_changed_blocks", `{"granularity":65536}`, ".bitmap is missing"},
		{"Volume.similar_content", `[1]`, "[0] is 1, want a string"},
		{"Volume.data_destroy", "{}", "want null"},
		{"Volume.stat", with(volume, `"key"`, `"volume_type":"Metadata","key"`), ".volume_type"},
		{"Volume.stat", with(volume, `"key"`, `"cbt_enabled":1,"key"`), ".cbt_enabled"},
		{"SR.probe", `[{"configuration":{"path":"p"},"complete":true,"sr":` + stat + `,"extra_info":{}}]`, "[0].configuration has no sr_uuid"},
		{"SR.probe", `[{"configuration":{"sr_uuid":"u"},"complete":false,"extra_info":{}}]`, "[0].complete is false"},
		{"Data.copy", `"CopyV1"`, "want one of CopyV1, MirrorV1"},
		{"Data.stat", `{"failed":false,"complete":false,"progress":"half"}`, `.progress is "half", want a number`},
		{"Task.stat", `{"id":"1","debug_info":"","ctime":1.5,"state":["Done",1]}`, ".state[0]"},
		{"Volume.destroy", "{}", "want null"},
		{"Volume.destroy", `""`, "want null"},
		{"Plugin.ls", "null", "want a list"},
		{"Volume.stat", with(volume, `"name":"n",`, ""), ".name is missing"},
		{"Volume.stat", with(volume, `"virtual_size":1`, `"virtual_size":1.0`), ".virtual_size is 1.0, want an int64"},
		{"Volume.stat", with(volume, `"virtual_size":1`, `"virtual_size":9223372036854775808`), "want an int64"},
		{"Volume.stat", with(volume, `"virtual_size":1`, `"virtual_size":"1"`), "want an int64"},
		{"Volume.stat", with(volume, `{"a":"b"}`, `null`), ".keys is null, want an object"},
		{"Volume.stat", with(volume, `{"a":"b"}`, `{"a":1}`), ".keys.a is 1, want a string"},
		{"Volume.stat", with(volume, `["u"]`, `null`), ".uri is null, want a list"},
		{"Volume.stat", with(volume, `"key"`, `"uuid":null,"key"`), ".uuid is null, want a string"},
		{"Volume.stat", with(volume, `"key"`, `"volume_type":["Data"],"key"`), ".volume_type"},
		{"Volume.stat", with(volume, `true`, `"true"`), ".read_write"},
		{"SR.ls", "[" + volume + ",7]", "[1] is 7, want an object"},
		{"SR.stat", with(stat, `"Healthy"`, `"Fine"`), `.health[0] is "Fine"`},
		{"SR.stat", with(stat, `["Healthy",""]`, `"Healthy"`), `.health is "Healthy", want a pair`},
		{"SR.attach", `{"sr":"x"}`, "want a string"},
		{"Datapath.attach", `{"implementations":[{"BlockDevice":{"path":"p"}}]}`, "[0]"},
		{"Datapath.attach", `{"implementations":[["Blockdevice",{"path":"p"}]]}`, "BlockDevice"},
		{"Datapath.attach", `{"implementations":[["XenDisk",{"params":"p","backend_type":"vbd"}]]}`, ".extra is missing"},
	} {
		v, err := decode([]byte(tt.answer))
		if err != nil {
			t.Fatal(err)
		}
		err = checkShape(tt.method, v)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s %s: %v, want %q", tt.method, tt.answer, err, tt.says)
		}
	}
}

// An answer is judged whatever it is, and one that passes can be read as what the
// call answers.
func FuzzAnswer(f *testing.F) {
	methods := smapi.Names()
	number := func(method string) int { return slices.Index(methods, method) }
	f.Add(number("Volume.stat"), false, []byte(`{"key":"k","name":"n","description":"","read_write":true,"sharable":false,"virtual_size":1,"physical_utilisation":0,"uri":["u"],"keys":{"a":"b"}}`))
	f.Add(number("SR.probe"), false, []byte(`[{"configuration":{"sr_uuid":"u"},"complete":true,"sr":{"sr":"s","name":"n","description":"","free_space":1,"total_space":2,"datasources":[],"clustered":false,"health":["Healthy",""]},"extra_info":{}}]`))
	f.Add(number("Datapath.attach"), false, []byte(`{"implementations":[["XenDisk",{"params":"p","extra":{},"backend_type":"vbd"}],["BlockDevice",{"path":"p"}]]}`))
	f.Add(number("Task.stat"), false, []byte(`{"id":"1","debug_info":"","ctime":1e999,"state":["Completed",{"duration":1,"result":["UnitResult",null]}]}`))
	f.Add(0, true, []byte(`{"code":"SR_BACKEND_FAILURE","params":["Volume_does_not_exist","k"],"backtrace":{"error":"e","files":[],"lines":[]}}`))
	f.Add(0, true, []byte(`{"code":"x","params":null,"backtrace":{}}`))
	f.Fuzz(func(t *testing.T, n int, failed bool, answer []byte) {
		method := methods[(n%len(methods)+len(methods))%len(methods)]
		var ended error
		if failed {
			ended = new(exec.ExitError)
		}
		out := &invoke.Output{Err: ended}
		out.Stdout.Write(answer)
		v, err := judge(method, out)
		var refused *smapi.Failure
		switch {
		case failed && err == nil:
			t.Fatalf("a failure passes: %q", answer)
		case !json.Valid(answer) && (err == nil || errors.As(err, &refused)):
			t.Errorf("%s: %q is no JSON and passes", method, answer)
		case err != nil:
			return
		}
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		into := smapi.NewResult(smapi.Find(method).Request)
		// In Go a member may be named in any case, to the toolstack only in one.
		if err := json.Unmarshal(data, into); err != nil && !oddNames(data) {
			t.Errorf("%s: %s passes, and is %v", method, data, err)
		}
	})
}

// oddNames says whether a JSON text may have a name in another case than the
// interface's, which are all in lower case.
func oddNames(data []byte) bool {
	return strings.ContainsFunc(string(data), func(r rune) bool { return unicode.IsUpper(r) || r >= utf8.RuneSelf || r == '\\' })
}
