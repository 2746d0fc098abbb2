package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/plugin"
	"reflinksr/scripts"
	"reflinksr/scripts/metrictext"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

func TestMain(m *testing.M) {
	if plugin.IsCall(os.Args[0]) {
		os.Exit(plugin.Main())
	}
	program := func() { os.Exit(run(os.Args[1:], terminal{os.Stdout}, terminal{os.Stderr})) }
	if filepath.Base(os.Args[0]) == "srctl" {
		program()
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	if status, again := scratch.Isolate(); again {
		os.Exit(status)
	}
	tests.Waiting()
	testscript.Main(m, map[string]func(){"srctl": program, "metrictext": readMetrics, "vhdtree": treeProgram})
}

// readMetrics tells what a monitoring system reads in a file of metrics, each value in a line.
func readMetrics() {
	text, err := os.ReadFile(os.Args[1])
	var samples []metrictext.Sample
	if err == nil {
		samples, err = metrictext.Parse(string(text))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, s := range samples {
		fmt.Println(s)
	}
}

// The operator's sessions, on btrfs and on XFS; the quick command has each on one of them.
func TestSessions(t *testing.T) {
	tests.Root(t, "mounting filesystems and attaching loop devices for sessions")
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	if !tests.All() {
		files = slices.DeleteFunc(files, func(file string) bool { return slices.Contains(slow, filepath.Base(file)) })
	}
	sessions(t, files)
}

// slow are sessions that the quick command leaves to make long.
var slow = []string{"delta_killed.txtar", "delta_to_a_device.txtar", "export_to_a_pipe.txtar", "mount.txtar", "import.txtar", "backup_killed.txtar", "backup_kept.txtar", "snapshot_kept_stuck.txtar",
	"convert.txtar", "convert_killed.txtar", "convert_refused.txtar", "export_resumed.txtar", "watch.txtar", "srs.txtar", "migrate.txtar", "sr_that_does_not_answer.txtar", "import_full.txtar"}

// What the documents tell an operator to type is what works.
func TestRecipes(t *testing.T) {
	tests.Root(t, "an SR for the recipes")
	var all []string
	for _, name := range []string{"backup", "import", "tour"} {
		session, err := os.ReadFile("testdata/recipes/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		document, err := os.ReadFile("../../docs/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		both := filepath.Join(t.TempDir(), name+".txtar")
		if err := os.WriteFile(both, append(append(session, "-- "+name+".md --\n"...), document...), 0o600); err != nil {
			t.Fatal(err)
		}
		all = append(all, both)
	}
	sessions(t, all)
}

func sessions(t *testing.T, files []string) {
	root := t.TempDir()
	if err := plugin.Install([]string{"-root", root}, io.Discard); err != nil {
		t.Fatal(err)
	}
	for turn, fs := range []string{"btrfs", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			if err := scratch.Available(fs); err != nil {
				tests.Skip(t, err)
			}
			c := scripts.Config{
				Volume:   filepath.Join(root, "volume", "org.xen.xapi.storage.reflink"),
				Datapath: []string{filepath.Join(root, "datapath")},
				FS:       fs,
				Own:      true,
			}
			scripts.Test(t, c, tests.Turn(files, turn))
		})
	}
}

// A monitoring system must not take an SR that could not be looked at for a good one.
func TestCheckOfNothing(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "none"), "/dev/null", filepath.Join(dir, ".reflinksr")} {
		var out, errs bytes.Buffer
		if status := run([]string{"check", "--json", path}, &out, &errs); status != 3 || !strings.Contains(errs.String(), "could not be checked") {
			t.Errorf("%s: exit %d, %s", path, status, errs.String())
		}
		var c checked
		if err := json.Unmarshal(out.Bytes(), &c); err != nil || c.Path != path || c.Error == "" || c.Problems == nil || c.Notes == nil || c.Repaired == nil {
			t.Errorf("%s: %s, %v", path, out.String(), err)
		}
	}
}

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{"disk": "disk", "a\nb": `"a\nb"`, "\x1b[31m": `"\x1b[31m"`, "日本": "日本", `a"b`: `"a\"b"`} {
		if got := oneLine(text); got != want {
			t.Errorf("%q is printed as %s, want %s", text, got, want)
		}
	}
}

func TestMap(t *testing.T) {
	for _, c := range []struct {
		ranges [][2]int64
		size   int64
		want   string
	}{
		{nil, 64, "........"},
		{[][2]int64{{0, 64}}, 64, "########"},
		{[][2]int64{{0, 1}, {2, 1}, {12, 4}, {20, 12}}, 64, "-++#...."},
		{[][2]int64{{7, 2}}, 64, "--......"},
		{[][2]int64{{0, 1}, {1, 7}, {63, 1}}, 64, "#......-"},
		{[][2]int64{{0, 3}}, 3, "###"},
		{nil, 0, ""},
		{[][2]int64{{9, 1}}, 10, "....+"},
		{[][2]int64{{1 << 59, 1 << 59}}, 1 << 60, "....####"},
	} {
		if got := mapOf(c.ranges, c.size, 8); got != c.want {
			t.Errorf("%v of %d is drawn %s, want %s", c.ranges, c.size, got, c.want)
		}
	}
}

func TestProgressLine(t *testing.T) {
	for _, c := range []struct {
		p     progress
		width int
		want  string
	}{
		{progress{what: "exporting", total: 1 << 30, done: 1 << 28}, 79, "exporting [#######........................] 25 % of 1 GiB, 128 MiB/s, 6 s left"},
		{progress{what: "applying", done: 1 << 28}, 79, "applying 256 MiB, 128 MiB/s"},
		{progress{what: "exporting", total: 1 << 30, done: 1 << 30}, 20, "exporting 100 % of …"},
		{progress{what: "exporting", total: 1 << 30, done: 2 << 30}, 0, ""},
		{progress{what: "exporting", total: 1 << 30}, 79, "exporting"},
	} {
		got := c.p.line(2*time.Second, c.width)
		if columnsOf(got) > c.width || !strings.HasPrefix(strings.Join(strings.Fields(got), " "), strings.Join(strings.Fields(c.want), " ")) && c.want != "" {
			t.Errorf("at %d of %d in %d columns: %q, want %q", c.p.done, c.p.total, c.width, got, c.want)
		}
	}
}

// Of volumes it is told how many are done, and how long the rest takes.
func TestCountedLine(t *testing.T) {
	for done, want := range map[int64]string{0: "checking 0 of 300 volumes", 100: "checking 100 of 300 volumes, 50/s, 4 s left", 300: "checking 300 of 300 volumes, 150/s, 0 s left"} {
		if got := countedLine("checking", done, 300, 2*time.Second); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Where holes cannot be made, zeros are written, and only where there is anything else.
func TestOverwrite(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(8 << 20); err != nil {
		t.Fatal(err)
	}
	noise := bytes.Repeat([]byte{1}, 1<<20)
	if _, err := f.WriteAt(noise, 4<<20); err != nil {
		t.Fatal(err)
	}
	if err := zeroOver(f, 0, 4<<20+4096); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 8<<20)
	copy(want[4<<20+4096:], noise[4096:])
	if !bytes.Equal(got, want) {
		t.Error("it does not hold zeros there, and what was there elsewhere")
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Blocks*512 > 3<<20 {
		t.Errorf("%d bytes are allocated, %v", st.Blocks*512, err)
	}
}

// The rate is that of late, and so is what is left.
func TestProgressRate(t *testing.T) {
	p := &progress{what: "exporting", total: 100 << 30}
	for range 50 { // ten seconds of a cache, then thirty of a disk
		p.done += 1 << 30 / 5
		p.feel(200 * time.Millisecond)
	}
	for range 150 {
		p.done += 10 << 20 / 5
		p.feel(200 * time.Millisecond)
	}
	if rate := p.rate / (1 << 20); rate < 10 || rate > 20 {
		t.Errorf("%.1f MiB/s, want about 10", rate)
	}
	for seconds, want := range map[float64]string{0: "0 s left", 6.2: "7 s left", 90: "90 s left", 600: "10 min left", 3 * 3600: "3 hours left", 1e18: "more than 1000 hours left", math.Inf(1): "more than 1000 hours left"} {
		if got := remaining(seconds); got != want {
			t.Errorf("%g: %s, want %s", seconds, got, want)
		}
	}
}

// Programs get names as they are, and a terminal nothing that controls it.
func TestJSONComesThrough(t *testing.T) {
	for _, name := range []string{"web", "a\nb\tc", "\x1b[31m\u009b2J", "\u202egpj.exe", "👨\u200d👩", "\U000e0041", "日本", "<&>", "\u2028"} {
		var b bytes.Buffer
		if err := printJSON(terminal{&b}, map[string]string{"name": name}); err != nil {
			t.Fatal(err)
		}
		var got map[string]string
		if err := json.Unmarshal(b.Bytes(), &got); err != nil || got["name"] != name {
			t.Errorf("%q came through as %q: %s, %v", name, got["name"], b.String(), err)
		}
		for _, r := range b.String() {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%q: %q is printed", name, r)
			}
		}
	}
}
