package recording

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test binary be the recorder, as a link in a wrapping directory
// and by name.
func TestMain(m *testing.M) {
	if status, ok := AsWrapper(); ok {
		os.Exit(status)
	}
	if len(os.Args) > 3 && os.Args[1] == "srtest" {
		os.Exit(asSrtest(os.Args[2], os.Args[3:]))
	}
	flag.Parse()
	// Under the race detector each process would wait a second before it ends.
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	os.Exit(m.Run())
}

func asSrtest(verb string, args []string) int {
	var err error
	switch verb {
	case "record":
		var status int
		status, err = Command{Path: args[1], Args: args[2:], Log: args[0], In: os.Stdin, Out: os.Stdout, Err: os.Stderr}.Run()
		if err == nil {
			return status
		}
	case "wrap":
		err = Wrap(args[0], args[1], "/proc/self/exe")
	case "unwrap":
		_, err = Unwrap(args[0])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

const uuid1, uuid2 = "3f2c8a10-5b6d-4e7f-8091-a2b3c4d5e6f7", "99999999-5b6d-4e7f-8091-a2b3c4d5e6f7"

// example is a recording of a session.
func example() []Call {
	at := time.Date(2026, 11, 24, 14, 3, 12, 0, time.UTC)
	var calls []Call
	add := func(plugin, call, request, answer string, status int) {
		calls = append(calls, Call{
			Time: at, Call: call, Plugin: plugin, Args: []string{"--json"},
			Request: json.RawMessage(request), Answer: json.RawMessage(answer), Status: status, Seconds: 0.002,
		})
		at = at.Add(10 * time.Millisecond)
	}
	const v, d = "org.example", "loop+blkback"
	volume := func(key, name string, size int) string {
		return fmt.Sprintf(`{"key":%q,"name":%q,"description":"","read_write":true,"sharable":false,"virtual_size":%d,"physical_utilisation":0,"uri":["loop+blkback:///%s"],"keys":{}}`, key, name, size, key)
	}
	add(v, "SR.create", `{"dbg":"x","uuid":"`+uuid1+`","configuration":{"path":"/srv/tank"},"name":"it's","description":"$HOME"}`, `{"path":"/srv/tank","sr_uuid":"`+uuid1+`"}`, 0)
	add(v, "SR.attach", `{"dbg":"x","configuration":{"sr_uuid":"`+uuid1+`","path":"/srv/tank"}}`, `"file:///srv/tank"`, 0)
	add(v, "Volume.create", `{"dbg":"x","sr":"file:///srv/tank","name":"my 'disk'","description":"","size":4096,"sharable":false}`, volume("k-1", "my 'disk'", 4096), 0)
	at = at.Add(5 * time.Second)
	add(v, "Volume.snapshot", `{"dbg":"x","sr":"file:///srv/tank","key":"k-1"}`, volume("k-2", "my 'disk'", 4096), 0)
	add(v, "Volume.set", `{"dbg":"x","sr":"file:///srv/tank","key":"k-2","k":"snapshot_of","v":"k-1"}`, `null`, 0)
	add(d, "Datapath.attach", `{"dbg":"x","uri":"loop+blkback:///k-1","domain":"7"}`, `{"implementations":[]}`, 0)
	add(v, "Volume.destroy", `{"dbg":"x","sr":"file:///srv/tank","key":"no-such"}`, `{"code":"SR_BACKEND_FAILURE","params":["Volume_does_not_exist","no-such"],"backtrace":{}}`, 1)
	add(v, "Volume.resize", `{"dbg":"x","sr":"file:///srv/tank","key":"k-1","new_size":1}`, `{"code":"SR_BACKEND_FAILURE_79","params":["","it's","smaller"],"backtrace":{}}`, 1)
	add(v, "Volume.stat", `{"dbg":"x","sr":"file:///srv/tank","key":"k-2"}`, `{"code":"OTHER","params":[],"backtrace":{}}`, 1)
	calls = append(calls, Call{Time: at, Call: "Volume.clone", Args: []string{"--json"}, Request: json.RawMessage(`{}`), Signal: "SIGKILL", Status: 137})
	return calls
}

func TestDraft(t *testing.T) {
	draft := Draft("mine", example())
	for _, want := range []string{
		"# mine: a draft from a recording of 10 calls",
		"\n\n# 14:03:12: SR.create, SR.attach, Volume.create.\nfs\nmkdir $MNT/disks\n",
		`call SR.create '{"uuid":"$UUID_A","configuration":{"path":"$MNT/disks"},"name":"it''s","description":"\u0024HOME"}'` + "\nget CONF .\n",
		`call SR.attach '{"configuration":$CONF}'` + "\nget SR .\n",
		`call Volume.create '{"sr":"$SR","name":"my ''disk''","description":"","size":4096,"sharable":false}'` +
			"\nget VOL .key\nget URI .uri[0]\nanswer .name 'my ''disk'''\nanswer .read_write true\nanswer .sharable false\nanswer .virtual_size 4096\n",
		"\n\n# 14:03:17: ",
		`call Volume.snapshot '{"sr":"$SR","key":"$VOL"}'` + "\nget SNAP .key\nanswer",
		`call Datapath.attach '{"uri":"$URI","domain":"7"}'`,
		`! call Volume.destroy '{"sr":"$SR","key":"no-such"}'` + "\nrefused Volume_does_not_exist no-such\n",
		"refused 79 # it's smaller\n",
		`! call Volume.stat '{"sr":"$SR","key":"$SNAP"}'` + "\n# refused with OTHER",
		"Volume.clone was ended by SIGKILL",
	} {
		if !strings.Contains(draft, want) {
			t.Errorf("%q is not in\n%s", want, draft)
		}
	}
	if strings.Contains(draft, "dbg") || strings.Contains(draft, "file:///") {
		t.Errorf("what is of the recorded host is in\n%s", draft)
	}
	file := filepath.Join(t.TempDir(), "draft.txtar")
	if err := os.WriteFile(file, []byte(draft), 0o600); err != nil {
		t.Fatal(err)
	}
	verbs := map[string]func(*testscript.TestScript, bool, []string){}
	said := 0
	for _, verb := range []string{"fs", "call", "get", "answer", "refused"} {
		verbs[verb] = func(ts *testscript.TestScript, _ bool, args []string) {
			if said++; verb == "call" && len(args) != 2 || verb == "answer" && len(args) != 2 || verb == "refused" && len(args) > 2 {
				ts.Fatalf("%s %q", verb, args)
			}
		}
	}
	t.Run("parsed", func(t *testing.T) {
		testscript.Run(t, testscript.Params{Files: []string{file}, Cmds: verbs, Setup: func(e *testscript.Env) error {
			e.Setenv("MNT", e.WorkDir)
			return nil
		}})
	})
	if said < 20 {
		t.Errorf("%d verbs were said", said)
	}
}

// A recording that begins when the SR has long been there.
func TestDraftOfOldSR(t *testing.T) {
	calls := example()[2:5]
	draft := Draft("x", calls)
	if !strings.Contains(draft, "\nsr\ncall Volume.create '{\"sr\":\"$SR\"") {
		t.Error(draft)
	}
	attach := example()[1]
	attach.Call = "SR.attach"
	draft = Draft("x", append([]Call{attach}, calls...))
	if !strings.Contains(draft, "\nsr\ncall SR.attach '{\"configuration\":$SR_CONF}'\nanswer . $SR\n") {
		t.Error(draft)
	}
}

func TestChart(t *testing.T) {
	calls := example()
	calls[5].Seconds = 0.025 // is answered after the next two
	text := Chart(calls, 5)
	for _, want := range []string{
		"toolstack", "volume plugin", "datapath plugin", "2026-11-24\n",
		"|-- 1 Datapath.attach uri=loop+blkback:///k-1 domain=7 ---", "<- 2 refused Volume_does_not_exist (2ms) ---", "+1 |-- 2 Volume.destroy",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "SR.create") || strings.Index(text, "<- 1 ") < strings.Index(text, "<- 3 ") {
		t.Error(text)
	}
	svg := SVG(calls, 40)
	if err := wellFormed(svg); err != nil || !strings.Contains(svg, "prefers-color-scheme: dark") || !strings.Contains(svg, "my &#39;disk&#39;") {
		t.Errorf("%v\n%s", err, svg)
	}
}

func TestRead(t *testing.T) {
	good := string(encode(example()[0]))
	calls, errs := Read(strings.NewReader("{\n\n" + good + strings.Repeat("x", longestLine+1) + "\nnull\n" + strings.TrimSpace(good)))
	if len(calls) != 2 || len(errs) != 3 || !strings.Contains(errs[0].Error(), "line 1 ") || !strings.Contains(errs[1].Error(), "line 4 ") || !strings.Contains(errs[2].Error(), "line 5 ") {
		t.Errorf("%d, %v", len(calls), errs)
	}
	if _, errs := Read(strings.NewReader(strings.Repeat("x\n", 1000))); len(errs) != reported+1 {
		t.Errorf("%d errors", len(errs))
	}
}

// Whatever was said, the line is one that Read takes.
func TestEncodeLong(t *testing.T) {
	c := example()[0]
	c.Request, c.Answer = nil, nil
	c.RequestText, c.AnswerText, c.Stderr = strings.Repeat("\x01", kept), strings.Repeat("\xff", kept), strings.Repeat("\"", kept)
	c.Args = []string{"--json", strings.Repeat("\n", 2*kept)}
	line := encode(c)
	calls, errs := Read(strings.NewReader(string(line)))
	if len(calls) != 1 || len(errs) > 0 || len(calls[0].Cut) == 0 {
		t.Errorf("%d bytes: %d, %v", len(line), len(calls), errs)
	}
	deep := capture{data: []byte(strings.Repeat("[", 10000) + strings.Repeat("]", 10000))}
	if raw, text := deep.value(); raw != nil || text == "" {
		t.Error("so deep a value cannot be a member")
	}
}

func wellFormed(svg string) error {
	dec := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := dec.Token(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// balanced parses a line as testscript does.
func balanced(line string) error {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '#' && !quoted:
			return nil
		case line[i] == '\'':
			quoted = !quoted // two in a row change nothing
		case line[i] == '\r':
			return errors.New("a carriage return")
		}
	}
	if quoted {
		return errors.New("unterminated quoted argument")
	}
	return nil
}

// What is read of a recording is the same when it was written again, and becomes a
// scenario and a chart that can be read, whatever it holds.
func FuzzRead(f *testing.F) {
	var all []byte
	for _, c := range example() {
		f.Add(encode(c))
		all = append(all, encode(c)...)
	}
	f.Add(all)
	f.Add([]byte(`{"time":"2026-11-24T14:03:12.1Z","call":"SR.ls","args":["-j"],"request":{"sr":"a","v":"'"},"answer":[{"key":"\u2028\r$x'","uri":["\\","b"]}],"status":0,"seconds":-1e308}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		calls, _ := Read(strings.NewReader(string(data)))
		for _, c := range calls {
			again, errs := Read(strings.NewReader(string(encode(c))))
			if len(again) != 1 || len(errs) > 0 || string(encode(again[0])) != string(encode(c)) {
				t.Errorf("%v: %s became %+v", errs, encode(c), again)
			}
		}
		draft := Draft("fuzz", calls)
		for line := range strings.Lines(draft) {
			if err := balanced(strings.TrimSuffix(line, "\n")); err != nil {
				t.Errorf("%v: %q", err, line)
			}
			verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			if !strings.Contains(" # ! call get answer refused sr fs mkdir  ", " "+verb+" ") {
				t.Errorf("%q begins no line: %q", verb, line)
			}
		}
		Chart(calls, 40)
		if err := wellFormed(SVG(calls, 40)); err != nil {
			t.Errorf("%v\n%s", err, SVG(calls, 40))
		}
	})
}
