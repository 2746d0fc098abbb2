package rrd

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reflinksr/internal/diskstat"
	"reflinksr/scripts/rrdd"
)

func begin(t *testing.T) (*rrdd.Server, *Client, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := rrdd.Start(filepath.Join(dir, "socket"), filepath.Join(dir, "metrics"), 3.25)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.End)
	return s, NewClient(filepath.Join(dir, "socket"), "a&b<c"), dir
}

// The life of a plugin: it is told where its file is, registers, is read, and takes leave.
func TestPlugin(t *testing.T) {
	s, c, dir := begin(t)
	ctx, at := context.Background(), time.Unix(1339685573, 250e6)
	path, err := c.Path(ctx)
	if want := filepath.Join(dir, "metrics", "a&b<c"); err != nil || path != want {
		t.Fatalf("%q, %v", path, err)
	}
	if _, err := c.Register(ctx); err == nil || !strings.Contains(err.Error(), "Rrdd_internal_error") {
		t.Errorf("registered without a file: %v", err)
	}
	f, err := CreateFile(path, at)
	if err != nil {
		t.Fatal(err)
	}
	if next, err := c.Register(ctx); err != nil || next != 3250*time.Millisecond {
		t.Errorf("%v, %v", next, err)
	}
	r, err := s.Read("a&b<c")
	if err != nil || r.At != 1339685573.25 || len(r.Sources) != 0 {
		t.Errorf("at first: %+v, %v", r, err)
	}
	sources := []Source{
		{Name: "n", Owner: VM("3f"), Description: "a \"b\" <\x01", Units: "μs", Kind: Gauge, Value: Float(-1.5)},
		{Name: "n", Owner: VM("40"), Units: "B/s", Kind: Derive, Value: Int(math.MaxUint64)},
		{Name: "m", Owner: Host, Units: "requests/s", Kind: Absolute, Value: Int(7)},
	}
	if err := f.Write(at.Add(time.Second), sources); err != nil {
		t.Fatal(err)
	}
	want := []rrdd.Source{
		{Name: "n", Description: "a \"b\" <\x01", Owner: "vm 3f", ValueType: "float", Type: "gauge", Default: "true", Units: "μs", Min: "0.0", Max: "inf", Value: -1.5},
		{Name: "n", Owner: "vm 40", ValueType: "int64", Type: "derive", Default: "true", Units: "B/s", Min: "0.0", Max: "inf", Value: math.MaxInt64},
		{Name: "m", Owner: "host", ValueType: "int64", Type: "absolute", Default: "true", Units: "requests/s", Min: "0.0", Max: "inf", Value: 7},
	}
	r, err = s.Read("a&b<c")
	if err != nil || r.Cached || r.At != 1339685574.25 || fmt.Sprint(r.Sources) != fmt.Sprint(want) {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := s.Read("a&b<c"); !errors.Is(err, rrdd.ErrNoUpdate) {
		t.Errorf("read again: %v", err)
	}
	sources[2].Value = Int(8)
	if err := f.Write(at.Add(2*time.Second), sources); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Read("a&b<c"); err != nil || !r.Cached || r.Sources[2].Value != 8 {
		t.Errorf("only values are new: %+v, %v", r, err)
	}
	if err := f.Write(at.Add(3*time.Second), sources[:1]); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Read("a&b<c"); err != nil || r.Cached || len(r.Sources) != 1 {
		t.Errorf("fewer: %+v, %v", r, err)
	}
	if !f.InPlace() {
		t.Error("it is not in place")
	}
	for range 2 {
		if err := c.Deregister(ctx); err != nil || s.Registered("a&b<c") {
			t.Errorf("%v", err)
		}
	}
	if err := f.Remove(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "metrics")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// The bytes of the public document's table, worked out by hand.
func TestBytes(t *testing.T) {
	p, err := payload(time.Unix(1, 0), []Source{{Name: "a", Owner: Host, Kind: Gauge, Value: Int(2)}, {Name: "b", Owner: Host, Kind: Gauge, Value: Float(1)}})
	if err != nil {
		t.Fatal(err)
	}
	about := func(kind string) string {
		return `{"description":"","owner":"host","value_type":"` + kind + `","type":"gauge","default":"true","units":"","min":"0.0","max":"inf"}`
	}
	text := `{"datasources":{"a":` + about("int64") + `,"b":` + about("float") + `}}`
	want := "DATASOURCES" + "\xda\xc5\xb2\xa4" // its checksums are of python's zlib.crc32
	if !bytes.HasPrefix(p, []byte(want)) {
		t.Errorf("%s", hex.EncodeToString(p[:15]))
	}
	rest := "\x00\x00\x00\x02" + "\x3f\xf0\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x02" + "\x3f\xf0\x00\x00\x00\x00\x00\x00" + "\x00\x00\x01" + string(byte(len(text)-256)) + text
	if got := string(p[19:]); got != rest {
		t.Errorf("%q\nwant\n%q", got, rest)
	}
	if got := hex.EncodeToString(p[15:19]); got != "d8cfbb6e" {
		t.Errorf("the checksum of the text is %s", got)
	}
}

// What is too much for the file is refused, and what was written before stays.
func TestTooMuch(t *testing.T) {
	s, c, dir := begin(t)
	f, err := CreateFile(filepath.Join(dir, "metrics", "a&b<c"), time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := c.Register(context.Background()); err != nil {
		t.Fatal(err)
	}
	guests := func(n int) (all []Source) {
		for i := range n {
			all = append(all, DiskSources(VM("0e4b1f0a-4b1c-4d8e-9a53-b0e1c9a0f001"), "device xvdaa", DiskName("xvdaa"), diskstat.Activity{Queue: float64(i)})...)
		}
		return all
	}
	if err := f.Write(time.Unix(2, 0), guests(4000)); err != nil {
		t.Errorf("4000 disks: %v", err)
	}
	if err := f.Write(time.Unix(3, 0), guests(5500)); err == nil || !strings.Contains(err.Error(), "77000 sources") {
		t.Errorf("5500 disks: %v", err)
	}
	if r, err := s.Read("a&b<c"); err != nil || r.At != 2 || len(r.Sources) != 4000*14 {
		t.Errorf("%v", err)
	}
}

// What was in the way of a new file is replaced, and a name that is a link is not followed.
func TestCreateFile(t *testing.T) {
	dir := t.TempDir()
	victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "metrics", "x")
	if err := errors.Join(os.WriteFile(victim, []byte("v"), 0o600), os.Mkdir(filepath.Dir(path), 0o755), os.Symlink(victim, path+".tmp"), os.Symlink(victim, path)); err != nil {
		t.Fatal(err)
	}
	f, err := CreateFile(path, time.Unix(1, 0))
	if err != nil || !f.InPlace() {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(victim); err != nil || string(data) != "v" {
		t.Errorf("%q, %v", data, err)
	}
	again, err := CreateFile(path, time.Unix(2, 0))
	if err != nil || f.InPlace() || !again.InPlace() {
		t.Errorf("a second one: %v", err)
	}
	if err := os.Mkdir(path+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".tmp/x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateFile(path, time.Unix(2, 0)); err == nil || !again.InPlace() {
		t.Errorf("a directory in the way: %v", err)
	}
}

// What a daemon may answer that is no answer is an error that says what it was.
func TestBadAnswers(t *testing.T) {
	var says string
	status := http.StatusOK
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); w.Write([]byte(says)) })}
	go server.Serve(l)
	defer server.Close()
	c := NewClient(l.Addr().String(), "u")
	answer := func(v string) string {
		return `<methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value></member><member><name>Value</name><value>` + v + `</value></member></struct></value></param></params></methodResponse>`
	}
	for _, good := range []string{"<double>2.5</double>", "2.5", "<double> 2.5 </double>"} {
		says = answer(good)
		if next, err := c.Register(context.Background()); err != nil || next != 2500*time.Millisecond {
			t.Errorf("%s: %v, %v", good, next, err)
		}
	}
	for bad, want := range map[string]string{
		"": "no answer by XML-RPC", "<html>": "no answer by XML-RPC", "<methodResponse></methodResponse>": "0 values", answer("<double>soon</double>"): `"soon"`,
		answer("<double>nan</double>"): `"nan"`, answer("<double>1e300</double>"): `"1e300"`, answer("<nil/>"): `""`,
		"<methodResponse><params><param><value>Success</value></param></params></methodResponse>":                                                                         "refuses",
		"<methodResponse><fault><value><struct><member><name>faultString</name><value><string>no\x1b</string></value></member></struct></value></fault></methodResponse>": "XML-RPC",
		"<methodResponse><fault><value><struct><member><name>faultString</name><value><string>no</string></value></member></struct></value></fault></methodResponse>":     `fault: "no"`,
		"<methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value></member></struct></value></param></params></methodResponse>":     "without a value",
	} {
		says = bad
		if _, err := c.Register(context.Background()); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "Plugin.Local.register: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	status = http.StatusUnauthorized
	if _, err := c.Path(context.Background()); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("unauthorised: %v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add("<methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value></member></struct></value></param></params></methodResponse>")
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := parseAnswer(strings.NewReader(text)); err == nil && !strings.Contains(text, "Success") {
			t.Errorf("%q: %+v", text, v)
		}
	})
}
