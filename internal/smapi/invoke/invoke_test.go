package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reflinksr/internal/smapi"
)

// plugin installs a shell script as every call of it.
func plugin(t *testing.T, script string) Plugin {
	t.Helper()
	dir := t.TempDir()
	for _, call := range []string{"Volume.stat", "Volume.destroy", "Plugin.ls", "Datapath.attach"} {
		path := filepath.Join(dir, call+".new")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path, filepath.Join(dir, call)); err != nil {
			t.Fatal(err)
		}
	}
	return Plugin{Volume: dir, Datapath: dir, Debug: "test"}
}

func TestAsk(t *testing.T) {
	p := plugin(t, `request=$(cat); [ "$1" = --json ] || exit 9
case $request in
'{"dbg":"test","sr":"s","key":"a \"b\""}') echo '{"key":"k","virtual_size":7,"uri":["u"]}' ;;
*) echo "$request"; exit 9 ;;
esac`)
	v, err := Ask(context.Background(), p, smapi.VolumeStat{SR: "s", Key: `a "b"`})
	if err != nil || v.Key != "k" || v.VirtualSize != 7 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestRequest(t *testing.T) {
	for want, r := range map[string]smapi.Request{
		`{"dbg":"d\n"}`: smapi.PluginLs{},
		`{"dbg":"d\n","sr":"s","name":"","description":"","size":-1,"sharable":true}`: smapi.VolumeCreate{SR: "s", Size: -1, Sharable: true},
		`{"dbg":"d\n","configuration":{"path":"/x"}}`:                                 smapi.SRAttach{Configuration: map[string]string{"path": "/x"}},
	} {
		if got, err := Request("d\n", r); err != nil || string(got) != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
}

// What the toolstack would not understand is told as that, and never taken for an answer or for
// an error of the plugin.
func TestAnswers(t *testing.T) {
	const failure = `{"code":"SR_BACKEND_FAILURE","params":["Volume_does_not_exist","k"],"backtrace":{"error":"e","files":[],"lines":[]}}`
	for _, tt := range []struct {
		script, answer, says string
		refused              bool
	}{
		{script: "echo null", answer: "null"},
		{script: "echo ' [1, 2] '", answer: "[1, 2]"},
		{script: "echo oops >&2; echo '{}'", answer: "{}"},
		{script: "echo '" + failure + "'; exit 1", says: "Volume_does_not_exist", refused: true},
		{script: "true", says: "exit status 0, and standard output is not one JSON value"},
		{script: "echo null null", says: "more than one value"},
		{script: `echo '{"a":1}x'`, says: "more than one value"},
		{script: "echo '{'", says: "not one JSON value"},
		{script: "echo null; exit 1", says: "lacks a field"},
		{script: "echo '" + strings.Replace(failure, `"files":[],`, "", 1) + "'; exit 1", says: "lacks a field"},
		{script: "echo Traceback >&2; exit 3", says: `exit status 3, and standard output is not one JSON value (EOF); standard error: "Traceback\n"`},
		{script: "kill -9 $$", says: "signal: killed"},
	} {
		p := plugin(t, tt.script)
		c, err := p.Command(smapi.PluginLs{})
		if err != nil {
			t.Fatal(err)
		}
		answer, err := c.Run(context.Background()).Answer()
		var failed *smapi.Failure
		if string(answer) != tt.answer || (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) || errors.As(err, &failed) != tt.refused {
			t.Errorf("%s: %q, %v; want %q, %q", tt.script, answer, err, tt.answer, tt.says)
		}
		if tt.refused && !failed.IsNamed(smapi.VolumeDoesNotExist) {
			t.Errorf("%v", failed)
		}
	}
}

// A context that ends kills what a call has started, too.
func TestRunEndsWithItsContext(t *testing.T) {
	begun := filepath.Join(t.TempDir(), "begun")
	p := plugin(t, "sleep 1000 & touch "+begun+"; sleep 1000")
	var at time.Time // it was cancelled
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(begun); err == nil {
				at = time.Now()
				cancel()
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	c := Command{Path: p.Path("Plugin.ls")}
	out := c.Run(ctx)
	if _, err := out.Answer(); err == nil || time.Since(at) >= Delay || out.PID == 0 {
		t.Errorf("%v %v after its end, process %d", err, time.Since(at), out.PID)
	}
}

func TestRunWrapped(t *testing.T) {
	p := plugin(t, `echo "\"$GREETING $0 $1\""`)
	c := Command{Path: p.Path("Plugin.ls"), Env: append(os.Environ(), "GREETING=hello"), Wrap: func(path string, args ...string) (string, []string, error) {
		return "/bin/sh", append([]string{"sh", "-c", `exec "$0" "$@-wrapped"`, path}, args...), nil
	}}
	answer, err := c.Run(context.Background()).Answer()
	if err != nil || string(answer) != `"hello `+c.Path+` --json-wrapped"` {
		t.Errorf("%s, %v", answer, err)
	}
}

// Of a plugin that does not stop printing, no more is kept than was asked for.
func TestRunKeeps(t *testing.T) {
	p := plugin(t, `head -c 100000 /dev/zero | tr '\0' x`)
	out := Command{Path: p.Path("Plugin.ls"), Keep: 1000}.Run(context.Background())
	if len(out.Stdout.Bytes()) != 1000 || !strings.Contains(out.Quote(), "100000 bytes") {
		t.Errorf("%d bytes, %s", len(out.Stdout.Bytes()), out.Quote())
	}
}

// Every request has all of its arguments in JSON, and nothing else.
func TestRequestsAreObjects(t *testing.T) {
	for _, call := range smapi.Calls {
		if strings.HasPrefix(call.Call(), "Data.") {
			continue // an operation that is none has no JSON
		}
		data, err := Request("d", call.Request)
		if err != nil {
			t.Fatal(err)
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(data, &members); err != nil || len(members) != len(smapi.ArgumentsOf(call.Request)) {
			t.Errorf("%s: %s, %v", call.Call(), data, err)
		}
	}
}
