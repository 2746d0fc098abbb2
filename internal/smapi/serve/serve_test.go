package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/smapi"
)

// everything is a request with an argument of each kind.
type everything struct {
	smapi.PluginLs
	SR            string            `json:"sr"`
	Size          int64             `json:"size"`
	Sharable      bool              `json:"sharable"`
	Configuration map[string]string `json:"configuration"`
}

func (everything) Call() string { return "Volume.stat" }

var params = everything{}

// in is what a request has in JSON.
func in(r Request) map[string]any {
	e := r.Request.(everything)
	return map[string]any{"dbg": r.Debug, "sr": e.SR, "size": e.Size, "sharable": e.Sharable, "configuration": e.Configuration}
}

const good = `{"dbg":"d","sr":"s","size":5,"sharable":true,"configuration":{"a":"b"},"more":[1,{"x":null}]}`

func TestReadJSON(t *testing.T) {
	r, err := ReadJSON(strings.NewReader(good), params)
	if err != nil {
		t.Fatal(err)
	}
	if r.Request.(everything).SR != "s" || r.Request.(everything).Size != 5 || !r.Request.(everything).Sharable || r.Request.(everything).Configuration["a"] != "b" {
		t.Errorf("%+v", r)
	}
	// The extremes of int64, blanks around, a text with every kind of escape.
	r, err = ReadJSON(strings.NewReader(" {\"dbg\":\"\\u00e9\\ud83d\\udcbe\\n\",\"sr\":\"\uFFFD\\ufffd\",\"size\":-9223372036854775808,\"sharable\":false,\"configuration\":{}} \n"), params)
	if err != nil || r.Debug != "é💾\n" || r.Request.(everything).SR != "\uFFFD\uFFFD" || r.Request.(everything).Size != -1<<63 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestReadJSONRefuses(t *testing.T) {
	with := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for _, tt := range []struct {
		name, request string
		class         error
		says          string
	}{
		{"empty", "", fault.ErrInvalid, "empty"},
		{"blank", "  \n", fault.ErrInvalid, "empty"},
		{"cut short", good[:len(good)-1], fault.ErrInvalid, "cut short"},
		{"array", "[" + good + "]", fault.ErrInvalid, "not a JSON object"},
		{"null", "null", fault.ErrInvalid, "not a JSON object"},
		{"string", `"x"`, fault.ErrInvalid, "not a JSON object"},
		{"trailing bytes", good + "x", fault.ErrInvalid, "follows"},
		{"two objects", good + good, fault.ErrInvalid, "follows"},
		{"duplicate", with(`"sr":"s"`, `"sr":"s","sr":"t"`), fault.ErrInvalid, "twice"},
		{"duplicate by escape", with(`"sr":"s"`, `"sr":"s","s\u0072":"t"`), fault.ErrInvalid, "twice"},
		{"duplicate inside", with(`{"a":"b"}`, `{"a":"b","a":"c"}`), fault.ErrInvalid, "twice"},
		{"duplicate in what is ignored", with(`{"x":null}`, `{"x":1,"x":2}`), fault.ErrInvalid, "twice"},
		{"other case", with(`"sr"`, `"SR"`), fault.ErrInvalid, `"sr" is missing`},
		{"invalid UTF-8", with(`"s"`, "\"\xff\""), fault.ErrInvalid, "UTF-8"},
		{"half a character", with(`"s"`, `"\ud83d"`), fault.ErrInvalid, "half a character"},
		{"the other half", with(`"s"`, `"\udcbe\ud83d"`), fault.ErrInvalid, "half a character"},
		{"missing", with(`"sr":"s",`, ``), fault.ErrInvalid, `"sr" is missing`},
		{"null argument", with(`"s"`, `null`), fault.ErrInvalid, `"sr" is missing`},
		{"number for text", with(`"s"`, `7`), fault.ErrInvalid, `"sr" must be a string`},
		{"text for number", with(`5`, `"5"`), fault.ErrInvalid, `"size" must be a whole number`},
		{"bool for number", with(`5`, `true`), fault.ErrInvalid, `"size" must be a whole number`},
		{"float", with(`5`, `5.0`), fault.ErrSize, `"size"`},
		{"exponent", with(`5`, `1e3`), fault.ErrSize, `"size"`},
		{"overflow", with(`5`, `9223372036854775808`), fault.ErrSize, `"size"`},
		{"number for bool", with(`true`, `1`), fault.ErrInvalid, `"sharable" must be true or false`},
		{"text for map", with(`{"a":"b"}`, `"x"`), fault.ErrInvalid, `"configuration" must be an object`},
		{"array for map", with(`{"a":"b"}`, `[]`), fault.ErrInvalid, `"configuration" must be an object`},
		{"number in map", with(`"b"`, `7`), fault.ErrInvalid, `"configuration" must be an object`},
		{"null in map", with(`"b"`, `null`), fault.ErrInvalid, `"configuration" must be an object`},
		{"deep", strings.Repeat("[", 100000), fault.ErrInvalid, "deep"},
		{"too long", with(`"s"`, `"`+strings.Repeat("s", RequestLimit)+`"`), fault.ErrInvalid, "more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := ReadJSON(strings.NewReader(tt.request), params)
			if !errors.Is(err, tt.class) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, %v; want %v that says %q", r, err, tt.class, tt.says)
			}
		})
	}
}

// The longest request there can be costs little, whatever it is made of.
func TestHostileRequestsAreCheap(t *testing.T) {
	for name, unit := range map[string]string{"objects": "{},", "arrays": "[],", "numbers": "1,", "halves": `"\\ud83d",`, "replacements": `"\ufffd",`} {
		t.Run(name, func(t *testing.T) {
			body := strings.Repeat(unit, (RequestLimit-20)/len(unit))
			request := `{"x":[` + body[:len(body)-1] + `]}`
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			start := time.Now()
			_, err := ReadJSON(strings.NewReader(request), params)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, fault.ErrInvalid) {
				t.Errorf("%v", err)
			}
			t.Logf("%d bytes: %v, %d MiB allocated in all", len(request), took, (after.TotalAlloc-before.TotalAlloc)>>20)
			// Not a benchmark: a quadratic reader takes minutes here.
			if took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// What is accepted is one JSON object to everybody, means what a plain reader takes it
// for, and said again it is the same request. What is not is refused with a class.
func FuzzReadJSON(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"dbg":"\ud83d","sr":"` + "\uFFFD" + `"}`))
	f.Add([]byte(` {"dbg":"\ud83d\udcbe","sr":"\\ud83d","size":-0,"sharable":false,"configuration":{"":""},"SIZE":6} ` + "\n"))
	f.Add([]byte(`{"dbg":"d","dbg":"e"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ReadJSON(bytes.NewReader(data), params)
		if (r.Request == nil) == (err == nil) {
			t.Fatalf("%v and %v", r, err)
		}
		if err != nil {
			if class := fault.Classify(err); class != fault.ErrInvalid && class != fault.ErrSize {
				t.Errorf("%v is no refusal of a request: %v", class, err)
			}
			return
		}
		if !json.Valid(data) || !utf8.Valid(data) {
			t.Errorf("%q is accepted", data)
		}
		var plain map[string]any
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		if err := dec.Decode(&plain); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if r.Debug != plain["dbg"] || r.Request.(everything).SR != plain["sr"] || r.Request.(everything).Sharable != plain["sharable"] {
			t.Errorf("%q is taken for %+v", data, r)
		}
		if n, err := plain["size"].(json.Number).Int64(); err != nil || n != r.Request.(everything).Size {
			t.Errorf("%q is taken for %+v", data, r)
		}
		given := plain["configuration"].(map[string]any)
		if len(given) != len(r.Request.(everything).Configuration) {
			t.Errorf("%q is taken for %+v", data, r)
		}
		for name, value := range r.Request.(everything).Configuration {
			if given[name] != value {
				t.Errorf("%q is taken for %+v", data, r)
			}
		}
		again, err := json.Marshal(in(r))
		if err != nil {
			t.Fatal(err)
		}
		if same, err := ReadJSON(bytes.NewReader(again), params); len(again) <= RequestLimit && (err != nil || !reflect.DeepEqual(same, r)) {
			t.Errorf("%s is taken for %+v, %v; it was %+v", again, same, err, r)
		}
	})
}

// A command line that is accepted is the same request as its arguments in the
// interface's order, and as those in JSON, if JSON can hold them.
func FuzzArgs(f *testing.F) {
	f.Add("d\x00--configuration\x00a\x00b\x00s\x005\x00TRUE")
	f.Add("--\x00-j\x00--configuration\x00-9223372036854775808\x00f")
	f.Add("-h\x00--json\x00d\x00s\x00+7\x001\x00--configuration\x00--\x00-j")
	f.Fuzz(func(t *testing.T, line string) {
		a, err := ScanArgs(strings.Split(line, "\x00"), params)
		var r Request
		if err == nil {
			r, err = a.Request(params)
		}
		if err != nil {
			if class := fault.Classify(err); class != fault.ErrInvalid && class != fault.ErrSize {
				t.Errorf("%v is no refusal of a request: %v", class, err)
			}
			return
		}
		plain := []string{}
		for name, value := range r.Request.(everything).Configuration {
			plain = append(plain, "--configuration", name, value)
		}
		plain = append(plain, "--", r.Debug, r.Request.(everything).SR, fmt.Sprint(r.Request.(everything).Size), fmt.Sprint(r.Request.(everything).Sharable))
		if a, err = ScanArgs(plain, params); err != nil || a.JSON || a.Help {
			t.Fatalf("%q became %q: %+v, %v", line, plain, a, err)
		}
		if again, err := a.Request(params); err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%q became %q: %+v, %v", line, plain, again, err)
		}
		if !utf8.ValidString(line) || len(line) > RequestLimit/8 {
			return
		}
		data, err := json.Marshal(in(r))
		if err != nil {
			t.Fatal(err)
		}
		if same, err := ReadJSON(bytes.NewReader(data), params); err != nil || !reflect.DeepEqual(same, r) {
			t.Errorf("%q is %+v, but %s is %+v, %v", line, r, data, same, err)
		}
	})
}

// Whatever an error quotes, the answer is one line of JSON in valid UTF-8, with the
// thing it is about as it was given.
func FuzzFail(f *testing.F) {
	f.Add(0, "Volume.stat", "k\n\xff", "t\x00\u2028\n")
	f.Add(4, "nonsense\x1b[31m", "\xed\xa0\x80", "")
	f.Fuzz(func(t *testing.T, class int, call, about, text string) {
		classes := []error{fault.ErrNotAttached, fault.ErrVolumeNotFound, fault.ErrInvalid, fault.ErrInUse, ErrUnimplemented, errors.New("other")}
		err := fault.Errorf(classes[(class%len(classes)+len(classes))%len(classes)], about, "%s", text)
		var b bytes.Buffer
		if err := fail(&b, call, fmt.Errorf("wrapped: %w", err)); err != nil {
			t.Fatal(err)
		}
		if !utf8.Valid(b.Bytes()) || bytes.IndexByte(b.Bytes(), '\n') != b.Len()-1 || bytes.ContainsFunc(b.Bytes()[:b.Len()-1], func(r rune) bool { return r < ' ' }) {
			t.Errorf("%q", b.Bytes())
		}
		var back smapi.Failure
		if err := json.Unmarshal(b.Bytes(), &back); err != nil || !strings.HasPrefix(back.Code, "SR_BACKEND_FAILURE") || len(back.Params) < 2 {
			t.Fatalf("%q: %v", b.Bytes(), err)
		}
		if back.Code == "SR_BACKEND_FAILURE" && back.Params[1] != strings.ToValidUTF8(about, "\uFFFD") {
			t.Errorf("it is about %q, not %q", back.Params[1], about)
		}
		if strings.ContainsFunc(back.Backtrace.Error, func(r rune) bool { return r < ' ' }) {
			t.Errorf("%q", back.Backtrace.Error)
		}
	})
}

func TestParseArgs(t *testing.T) {
	parse := func(args []string) (Request, error) {
		a, err := ScanArgs(args, params)
		if err != nil {
			return Request{}, err
		}
		return a.Request(params)
	}
	r, err := parse([]string{"d", "--configuration", "a", "b", "s", "5", "--configuration", "c", "d e", "TRUE"})
	if err != nil || r.Debug != "d" || r.Request.(everything).SR != "s" || r.Request.(everything).Size != 5 || !r.Request.(everything).Sharable || len(r.Request.(everything).Configuration) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := parse([]string{"--", "d", "--configuration", "5", "true"}); err != nil || r.Request.(everything).SR != "--configuration" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, tt := range []struct {
		args []string
		says string
	}{
		{nil, `"dbg" is missing`},
		{[]string{"d", "s"}, `"size" is missing`},
		{[]string{"d", "s", "x", "true"}, `"size"`},
		{[]string{"d", "s", "1", "maybe"}, `"sharable"`},
		{[]string{"d", "s", "1", "true", "more"}, `"more" is one too many`},
		{[]string{"d", "s", "1", "true", "--configuration", "k"}, "needs a key and a value"},
		{[]string{"--configuration", "k", "v", "--configuration", "k", "w"}, "twice"},
	} {
		if _, err := parse(tt.args); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: %v, want %q", tt.args, err, tt.says)
		}
	}
}

func TestScanArgs(t *testing.T) {
	for _, tt := range []struct {
		args       string
		json, help bool
	}{
		{"--json", true, false}, {"-j", true, false}, {"d -h", false, true}, {"--help", false, true},
		{"--configuration --help -j d", false, false}, {"-- --json -h", false, false}, {"d s", false, false},
	} {
		a, err := ScanArgs(strings.Fields(tt.args), params)
		if err != nil || a.JSON != tt.json || a.Help != tt.help {
			t.Errorf("%q: %+v, %v", tt.args, a, err)
		}
	}
}

func TestFailure(t *testing.T) {
	for _, tt := range []struct {
		err    error
		code   string
		params []string
	}{
		{fault.Errorf(fault.ErrNotAttached, "file:///x", "t"), "SR_BACKEND_FAILURE", []string{"Sr_not_attached", "file:///x"}},
		{fault.Errorf(fault.ErrSRNotFound, "/x", "t"), "SR_BACKEND_FAILURE", []string{"SR_does_not_exist", "/x"}},
		{fault.Errorf(fault.ErrVolumeNotFound, "k\n\xff", "t"), "SR_BACKEND_FAILURE", []string{"Volume_does_not_exist", "k\n\uFFFD"}},
		{fmt.Errorf("w: %w", fault.Errorf(fault.ErrElsewhere, "host", "t")), "SR_BACKEND_FAILURE", []string{"Activated_on_another_host", "host"}},
		{fault.Errorf(ErrUnimplemented, "Volume.compare", "t"), "SR_BACKEND_FAILURE", []string{"Unimplemented", "Volume.compare"}},
		{fault.Errorf(fault.ErrInUse, "k", "t"), "SR_BACKEND_FAILURE_24", nil},
		{fault.Errorf(fault.ErrSize, "k", "t"), "SR_BACKEND_FAILURE_79", nil},
		{unix.ENOSPC, "SR_BACKEND_FAILURE_44", nil},
		{unix.EDQUOT, "SR_BACKEND_FAILURE_44", nil},
		{fmt.Errorf("w: %w", unix.EIO), "SR_BACKEND_FAILURE_200", nil},
		{errors.New("something"), "SR_BACKEND_FAILURE_202", nil},
	} {
		f := FailureOf("Volume.stat", tt.err)
		if f.Code != tt.code || tt.params != nil && fmt.Sprint(f.Params) != fmt.Sprint(tt.params) {
			t.Errorf("%v: %+v, want %s %q", tt.err, f, tt.code, tt.params)
		}
		if tt.params == nil && (len(f.Params) != 3 || !strings.HasPrefix(f.Params[2], "Volume.stat: ")) {
			t.Errorf("%v: %q", tt.err, f.Params)
		}
		var b bytes.Buffer
		if err := fail(&b, "Volume.stat", tt.err); err != nil || strings.Count(b.String(), "\n") != 1 {
			t.Errorf("%q, %v", b.String(), err)
		}
		if !strings.Contains(b.String(), `"files":[]`) || !strings.Contains(b.String(), `"lines":[]`) {
			t.Errorf("a required field is missing: %s", b.String())
		}
	}
}

// What fails knows no arguments; the letter names the one that it is about, once.
func TestLettersNameArguments(t *testing.T) {
	for _, tt := range []struct {
		call       string
		class      error
		item, text string
		want       string
	}{
		{"Volume.resize", fault.ErrSize, "size", "the size is 0", `the size is 0 (argument "new_size")`},
		{"Volume.create", fault.ErrSize, "size", "the size is 0", `the size is 0 (argument "size")`},
		{"SR.set_name", fault.ErrInvalid, "name", "the name is bad", `the name is bad (argument "new_name")`},
		{"Volume.set", fault.ErrInvalid, "pair's key", "the pair's key is bad", `the pair's key is bad (argument "k")`},
		{"Volume.set", fault.ErrInvalid, "key", `argument "key" is missing`, `argument "key" is missing`},
		{"Volume.resize", fault.ErrInUse, "size", "in use", "in use"},
		{"SR.create", fault.ErrInvalid, "name", `configuration "name" is unknown`, `configuration "name" is unknown`},
		{"SR.create", fault.ErrInvalid, "wipe", `configuration "wipe" is "x"`, `configuration "wipe" is "x"`},
		{"Volume.other", fault.ErrInvalid, "size", "no such call", "no such call"},
	} {
		f := FailureOf(tt.call, fault.Errorf(tt.class, tt.item, "%s", tt.text))
		if got := fmt.Sprint(f.Params[len(f.Params)-1]); got != tt.call+": "+tt.want {
			t.Errorf("%s: %q, want %q", tt.call, got, tt.want)
		}
	}
}

func TestReply(t *testing.T) {
	var b bytes.Buffer
	if err := reply(&b, nil); err != nil || b.String() != "null\n" {
		t.Errorf("the unit result is %q, %v", b.String(), err)
	}
}
