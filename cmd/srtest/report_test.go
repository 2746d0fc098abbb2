package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
	"reflinksr/testdata/plugins"
)

func TestTitles(t *testing.T) {
	for _, c := range []struct{ dirs, want []string }{
		{[]string{"/opt/volume/org.a"}, []string{"org.a"}},
		{[]string{"/opt/volume/org.a", "/opt/volume/org.b"}, []string{"org.a", "org.b"}},
		{[]string{"/x/1/volume/org.a", "/x/2/volume/org.a"}, []string{"1", "2"}},
		{[]string{"/x/1/volume/org.a", "/y/volume/org.a"}, []string{"x/1", "y"}},
		{[]string{"/x/p", "/x/p"}, []string{"p", "p"}},
		{[]string{"/x/1/volume/org.a", "/opt/org.b", "/x/2/volume/org.a"}, []string{"1", "org.b", "2"}},
	} {
		var each []target
		for _, dir := range c.dirs {
			each = append(each, target{volume: dir})
		}
		if got := titles(each); !slices.Equal(got, c.want) {
			t.Errorf("%q are titled %q, want %q", c.dirs, got, c.want)
		}
	}
}

// installed installs the right plugin and wrong ones, each in a directory of its
// name, and returns that which holds them, with the configuration in simple.json.
func installed(t *testing.T, wrong ...string) string {
	t.Helper()
	tests.Root(t, "mounting filesystems and attaching loop devices for scenarios")
	if err := scratch.Available("xfs"); err != nil {
		tests.Skip(t, err)
	}
	dir := t.TempDir()
	simple, err := plugins.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := plugins.Install(simple, filepath.Join(dir, "right"), nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range wrong {
		w, err := plugins.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := plugins.Install(simple, filepath.Join(dir, name), w.Front); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "simple.json"), []byte(`{"location": "$SR_PATH"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A report shows plugins side by side, as text and as a page that needs nothing else.
func TestReport(t *testing.T) {
	dir := installed(t, "answer_size_is_text", "rename_without_effect")
	html := filepath.Join(dir, "report.html")
	args := []string{"report", "-config", filepath.Join(dir, "simple.json"), "-fs", "xfs", "-html", html, "-run", "^(volume_set_name_and_description|snapshot)$"}
	for _, name := range []string{"right", "rename_without_effect", "answer_size_is_text"} {
		args = append(args, "-volume", filepath.Join(dir, name, "volume", "org.example.simple"))
	}
	var out, errs bytes.Buffer
	if status := run(args, &out, &errs); status != 1 || !strings.Contains(errs.String(), "3 scenarios failed") {
		t.Errorf("exit %d, %s", status, errs.String())
	}
	line := func(call string) []string {
		for l := range strings.Lines(out.String()) {
			if f := strings.Split(strings.TrimSpace(l), "  "); f[0] == call {
				return slices.DeleteFunc(f[1:], func(s string) bool { return strings.TrimSpace(s) == "" })
			}
		}
		return nil
	}
	for call, want := range map[string][3]string{
		"works / refuses properly": {"right", "rename_without_effect", "answer_size_is_text"},
		"Volume.revert":            {"not offered", "not offered", "not offered"},
		"Volume.unset":             {"not tested", "not tested", "not tested"},
	} {
		if got := line(call); len(got) != 3 || strings.TrimSpace(got[0]) != want[0] || strings.TrimSpace(got[1]) != want[1] || strings.TrimSpace(got[2]) != want[2] {
			t.Errorf("%s: %q, want %q", call, got, want)
		}
	}
	for i, wrong := range []bool{false, true, true} {
		if got := line("Volume.stat"); len(got) != 3 || strings.Contains(got[i], "WRONG") != wrong {
			t.Errorf("Volume.stat: %q", got)
			break
		}
	}
	for _, want := range []string{"right: 2 scenarios passed, 0 failed", `.virtual_size is "4194304", want an int64`, "wrong: Volume.stat, in xfs/snapshot:5"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}

	page, err := os.ReadFile(html)
	if err != nil {
		t.Fatal(err)
	}
	for _, alien := range []string{"http:", "https:", "src=", "href=", "@import", "url("} {
		if bytes.Contains(page, []byte(alien)) {
			t.Errorf("the page refers to something else: %s", alien)
		}
	}
	d := xml.NewDecoder(bytes.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	elements := map[string]int{}
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		if start, ok := token.(xml.StartElement); ok {
			class := ""
			for _, a := range start.Attr {
				if a.Name.Local == "class" {
					class = "." + a.Value
				}
			}
			elements[start.Name.Local+class]++
		}
	}
	if elements["td.wrong"] != 2 || elements["h2"] != 3 || elements["td.works"] == 0 {
		t.Errorf("the page has %v", elements)
	}
}

// A session in the shell ends with everything cleaned up, and what succeeded in it is
// a scenario that passes.
func TestShell(t *testing.T) {
	dir := installed(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	plugin := []string{"-volume", "right/volume/org.example.simple", "-config", "simple.json", "-fs", "xfs"}
	c := exec.Command(self, append([]string{"shell"}, plugin...)...)
	c.Args[0], c.Dir = "srtest", dir
	c.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	c.Stdin = strings.NewReader(`help get
call Volume.create '{"sr":"$SR","name":"a  disk","description":"","size":16777216,"sharable":false}'
get VOL .key
plug $VOL
guest $VOL blockdev --getsize64 DEV
call Volume.stat '{"sr":"$SR","key":"nothing"}'
! call Volume.stat '{"sr":"$SR","key":"nothing"}'
exec false
exec sh -c 'test -n "$VOL"'
plug
nonsense
unplug $VOL
answer .name
leak
save session.txtar
`)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"set the variable NAME to a field", `"virtual_size": 16777216`, "\n16777216\n", "refused: SR_BACKEND_FAILURE [\"Volume_does_not_exist\" \"nothing\"]",
		"usage: [!] plug", `there is no "nonsense"`, "usage: [!] answer", "> leak\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	saved, err := os.ReadFile(filepath.Join(dir, "session.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	want := `# A sentence about behaviour.
sr
call Volume.create '{"sr":"$SR","name":"a  disk","description":"","size":16777216,"sharable":false}'
get VOL .key
plug $VOL
guest $VOL blockdev --getsize64 DEV
! call Volume.stat '{"sr":"$SR","key":"nothing"}'
exec sh -c 'test -n "$VOL"'
unplug $VOL
leak
`
	if string(saved) != want {
		t.Errorf("saved is\n%s\nwant\n%s", saved, want)
	}
	c = exec.Command(self, append(append([]string{"run"}, plugin...), "session.txtar")...)
	c.Args[0], c.Dir = "srtest", dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// A call works in a report only if a scenario that passed has shown it: of a snapshot, by
// what it holds after its disk was written to.
func TestReportOfWhatWasNotTested(t *testing.T) {
	dir := installed(t, "snapshot_is_a_hard_link_of_few_calls")
	row := func(call, plugin, scenarios string) string {
		var out, errs bytes.Buffer
		run([]string{"report", "-config", filepath.Join(dir, "simple.json"), "-fs", "xfs", "-run", scenarios, "-volume", filepath.Join(dir, plugin, "volume")}, &out, &errs)
		for l := range strings.Lines(out.String()) {
			if rest, ok := strings.CutPrefix(l, call+" "); ok {
				return strings.Join(strings.Fields(rest), " ")
			}
		}
		t.Errorf("%s is not in\n%s%s", call, out.String(), errs.String())
		return ""
	}
	for _, c := range [][4]string{
		{"Volume.snapshot", "right", "^volume_set_name_and_description$", "not tested · · ·"}, // it is called
		{"Volume.set_name", "right", "^volume_set_name_and_description$", "3 1 · ·"},
		{"Volume.snapshot", "right", "^copy_keeps_contents$", "not tested · · ·"}, // it is not, and the scenario is skipped
		{"Volume.create", "right", "^copy_keeps_contents$", "not tested · · ·"},
		{"Volume.copy", "right", "^copy_keeps_contents$", "· · × ·"},
		{"Volume.snapshot", "right", "^snapshot_keeps_contents$", "2 · · ·"},
		{"Volume.snapshot", "snapshot_is_a_hard_link_of_few_calls", "^snapshot_keeps_contents$", "· · · 1"},
	} {
		if got := row(c[0], c[1], c[2]); got != c[3] {
			t.Errorf("%s of %s after %s: %q, want %q", c[0], c[1], c[2], got, c[3])
		}
	}
}
