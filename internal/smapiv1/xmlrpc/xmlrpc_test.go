package xmlrpc

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// What xapi writes, and what Python does, is the same.
func TestRequestsOfOthers(t *testing.T) {
	want := Struct{"command": "sr_scan", "args": []any{"a", ""}, "n": int64(-3), "yes": true, "none": nil, "map": Struct{"k": "a<b"}}
	for _, text := range []string{
		`<?xml version="1.0"?><methodCall><methodName>sr_scan</methodName><params><param><value><struct><member><name>command</name><value>sr_scan</value></member>` +
			`<member><name>args</name><value><array><data><value>a</value><value/></data></array></value></member><member><name>n</name><value><i4>-3</i4></value></member>` +
			`<member><name>yes</name><value><boolean>1</boolean></value></member><member><name>none</name><value><nil/></value></member>` +
			`<member><name>map</name><value><struct><member><name>k</name><value>a&lt;b</value></member></struct></value></member></struct></value></param></params></methodCall>`,
		"<?xml version='1.0'?>\n<methodCall>\n<methodName>sr_scan</methodName>\n<params>\n<param>\n<value><struct>\n<member>\n<name>command</name>\n<value><string>sr_scan</string></value>\n</member>\n" +
			"<member>\n<name>args</name>\n<value><array><data>\n<value><string>a</string></value>\n<value><string></string></value>\n</data></array></value>\n</member>\n" +
			"<member>\n<name>n</name>\n<value><int>-3</int></value>\n</member>\n<member>\n<name>yes</name>\n<value><boolean>1</boolean></value>\n</member>\n<member>\n<name>none</name>\n<value><nil/></value></member>\n" +
			"<member>\n<name>map</name>\n<value><struct>\n<member>\n<name>k</name>\n<value><string>a&#60;b</string></value>\n</member>\n</struct></value>\n</member>\n</struct></value>\n</param>\n</params>\n</methodCall>\n",
	} {
		method, params, err := ParseRequest([]byte(text))
		if err != nil || method != "sr_scan" || len(params) != 1 || !reflect.DeepEqual(params[0], want) {
			t.Errorf("%q %#v %v", method, params, err)
		}
	}
}

func TestRefused(t *testing.T) {
	call := func(value string) string {
		return `<methodCall><methodName>m</methodName><params><param>` + value + `</param></params></methodCall>`
	}
	for name, text := range map[string]string{
		"nothing":          "",
		"no XML":           "sr_scan",
		"another root":     "<methodResponse/>",
		"no method":        "<methodCall><params/></methodCall>",
		"cut off":          "<methodCall><methodName>m</methodName>",
		"two documents":    call("<value/>") + call("<value/>"),
		"an entity":        `<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa">]>` + call("<value>&a;</value>"),
		"an unknown one":   call("<value>&a;</value>"),
		"a member twice":   call("<value><struct><member><name>a</name><value/></member><member><name>a</name><value/></member></struct></value>"),
		"no name":          call("<value><struct><member><value/></member></struct></value>"),
		"a type of none":   call("<value><long>1</long></value>"),
		"no number":        call("<value><int>1x</int></value>"),
		"a huge number":    call("<value><int>9223372036854775808</int></value>"),
		"no boolean":       call("<value><boolean>true</boolean></value>"),
		"two types":        call("<value><int>1</int><int>2</int></value>"),
		"text beside":      call("<value>a<int>1</int></value>"),
		"an attribute":     call(`<value a="b"/>`),
		"a namespace":      call(`<value xmlns="x"/>`),
		"another encoding": `<?xml version="1.0" encoding="latin1"?>` + call("<value/>"),
		"a deep value":     call(strings.Repeat("<value><array><data>", 100) + strings.Repeat("</data></array></value>", 100)),
	} {
		if method, params, err := ParseRequest([]byte(text)); err == nil {
			t.Errorf("%s: %q %v", name, method, params)
		}
	}
	for _, text := range []string{"", "<methodResponse/>", "<methodResponse><fault><value/></fault></methodResponse>", "<methodResponse><params/></methodResponse>"} {
		if v, err := ParseResponse([]byte(text)); err == nil {
			t.Errorf("%s: %v", text, v)
		}
	}
}

func TestFault(t *testing.T) {
	_, err := ParseResponse((&Fault{39, "The SR is not empty [opterr=<x>]\x01"}).Response())
	var f *Fault
	if !errors.As(err, &f) || f.Code != 39 || f.Text != "The SR is not empty [opterr=<x>]\uFFFD" {
		t.Error(err)
	}
}

// Whatever can be read is written so that it reads the same.
func FuzzRequest(f *testing.F) {
	f.Add(Request("sr_scan", Struct{"args": []string{"a"}, "b": true, "n": 1, "x": nil, "m": map[string]string{"a": "b"}, "f": 1.5}))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><methodCall><methodName>&b;</methodName></methodCall>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		method, params, err := ParseRequest(data)
		if err != nil {
			return
		}
		text := Request(method, params...)
		again, same, err := ParseRequest(text)
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if third := Request(again, same...); string(third) != string(text) {
			t.Fatalf("%s\n%s", text, third)
		}
	})
}
