package recording

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// build builds a program of this module.
func build(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(name))
	c := exec.Command("go", "build", "-o", path, "reflinksr/"+name)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

func put(t *testing.T, path, text string) {
	t.Helper()
	mode := os.FileMode(0o644)
	if strings.HasPrefix(text, "#!") {
		mode = 0o755
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// Scripts that answer what they see.
const (
	shLook = `#!/bin/sh -u
echo "0 $0"
printf '<%s> ' "$@"; pwd; cat; env | sort
readlink -f "$0"; ls "$(dirname "$0")" | grep -v pycache
head -n 3 "$0" | tail -n 2; sed -n '$=' "$0"
. "$(dirname "$0")/lib.sh"
cat "$(dirname "$0")/share/text"
ls "$(dirname "$0")/../../datapath"
`
	shElsewhere = `#!/bin/sh
echo "${0##*/} $(basename "$(dirname "$0")") $(basename "$(dirname "$(dirname "$0")")")"
. "$(dirname "$(readlink -f "$0")")/beside.sh"; readlink -f "$0"
. "$(dirname "$0")/lib.sh"
`
	pythonLook = `#!/usr/bin/env python3
import os, sys
sys.dont_write_bytecode = True
import library
print(sys.argv, __file__, sys.path[0], os.getcwd(), os.path.realpath(__file__), library.where, sorted(os.environ.items()), sys.stdin.read())
`
	perlLook = "#!/usr/bin/perl -w\nprint \"$0 $^W @ARGV \", <STDIN>;\n"
)

// Wrapped, a plugin answers what it answers otherwise, whatever it looks at.
func TestWrapChangesNoAnswer(t *testing.T) {
	look := build(t, "scripts/recording/testdata/look")
	root := t.TempDir()
	dir, elsewhere := filepath.Join(root, "volume", "org.example"), filepath.Join(root, "lib")
	for name, text := range map[string]string{
		"Plugin.Query": shLook, "Volume.snapshot": perlLook, "volume.py": pythonLook, "bin/below": shElsewhere, "bin/beside.sh": "echo below\n",
		"lib.sh": "echo library\n", "library.py": "import os\nwhere = os.path.realpath(__file__)\n", "share/text": "text\n", "look.sh": shLook, "../../datapath/x/y": "",
		"../../lib/out": shElsewhere, "../../lib/beside.sh": "echo beside\n", "../../lib/library.py": "where = 'elsewhere'\n", "../../lib/out.py": pythonLook,
		"Volume.unset": "#! \t/bin/sh\necho \"$0\"\n", "Volume.set": "#!/bin/sh", "Task.ls": "#!/no/such/interpreter\n",
	} {
		put(t, filepath.Join(dir, name), text)
	}
	for name, to := range map[string]string{
		"Volume.create": "volume.py", "Volume.clone": "Volume.create", "SR.stat": dir + "/look.sh", "SR.ls": "./bin/below", "SR.probe": "../../lib/out", "SR.create": elsewhere + "/out",
		"Volume.stat": "../../lib/out.py", "Volume.resize": "program", "Volume.revert": "../org.example/program", "Volume.copy": look, "Volume.destroy": "../../lib/look", "dangling": "nothing",
	} {
		link(t, to, filepath.Join(dir, name))
	}
	for _, to := range []string{filepath.Join(dir, "program"), filepath.Join(dir, "Volume.compare"), filepath.Join(elsewhere, "look")} {
		if err := copyProgram(to, look); err != nil {
			t.Fatal(err)
		}
	}
	var calls []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if isCall(filepath.Join(dir, e.Name())) {
			calls = append(calls, e.Name())
		}
	}
	// Each call by its path, by a relative one, by a link to the directory, and by another name.
	beside := filepath.Join(root, "link")
	link(t, dir, beside)
	answers := func() (all []string) {
		for _, call := range calls {
			for _, how := range []struct{ path, dir, argv0 string }{
				{filepath.Join(dir, call), "/", ""}, {"./" + call, dir, ""}, {"volume/org.example/" + call, root, ""}, {filepath.Join(beside, call), root, ""}, {filepath.Join(dir, call), root, "-another/name"},
			} {
				c := exec.Command(how.path, "--json", "", "a b")
				if how.argv0 != "" {
					c.Args[0] = how.argv0
				}
				var out, errs bytes.Buffer
				c.Dir, c.Stdin, c.Stdout, c.Stderr = how.dir, strings.NewReader(`{"dbg":"x"}`), &out, &errs
				c.Env = []string{"PATH=" + os.Getenv("PATH"), "PWD=" + how.dir, "HOME=/", "EMPTY=", "odd name=1"}
				err := c.Run()
				if strings.HasPrefix(call, "SR.p") || strings.HasPrefix(call, "SR.c") || call == "Volume.stat" || call == "SR.ls" {
					// A script elsewhere: another path to the same names.
					path := filepath.Join(filepath.Dir(dir), "x")[:len(root)]
					out = *bytes.NewBufferString(strings.ReplaceAll(out.String(), path+"/.srtest-wrap.volume.org.example/links/", path+"/"))
					out = *bytes.NewBufferString(strings.ReplaceAll(out.String(), path+"/.srtest-wrap.volume.org.example/", path+"/"))
					out = *bytes.NewBufferString(strings.ReplaceAll(out.String(), beside+"/", dir+"/"))
					for _, relative := range []string{"'./", "'volume/org.example/"} {
						out = *bytes.NewBufferString(strings.ReplaceAll(out.String(), relative, "'"+dir+"/"))
					}
					if strings.HasPrefix(how.path, beside) || how.dir == dir || how.dir == root && how.argv0 == "" {
						continue // $0 is how the caller says it there: see Wrap
					}
				}
				if call == "Volume.copy" || call == "Volume.destroy" {
					// A program elsewhere: what leads to it by the name of the call is not what it was.
					head, rest, _ := strings.Cut(out.String(), "\nreal ")
					_, tail, _ := strings.Cut(rest, "\n")
					out = *bytes.NewBufferString(head + "\n" + tail)
				}
				all = append(all, fmt.Sprintf("%s %+v: %v\n%s%s", call, how, err, out.String(), errs.String()))
			}
		}
		return all
	}
	before, was := answers(), state(t, dir)
	log := filepath.Join(t.TempDir(), "log")
	must(t, srtest("wrap", dir, log))
	wrapped := answers()
	for i := range before {
		if before[i] != wrapped[i] && !strings.HasPrefix(before[i], "Task.ls") { // not started: we say so in our way
			t.Errorf("before, %s\nwrapped, %s", before[i], wrapped[i])
		}
	}
	must(t, srtest("unwrap", dir))
	if after := state(t, dir); after != was {
		t.Errorf("before:\n%s\nafter:\n%s", was, after)
	}
	if again := answers(); !slices.Equal(again, before) {
		t.Error("it answers something else now")
	}
	nothingAside(t, dir)
	recorded := map[string]bool{}
	for _, c := range readLog(t, log) {
		recorded[c.Call] = true
		if c.Plugin != "org.example" || !slices.Equal(c.Args, []string{"--json", "", "a b"}) {
			t.Errorf("%+v", c)
		}
	}
	for _, call := range calls {
		if !recorded[call] && call != "Task.ls" {
			t.Errorf("%s was not recorded", call)
		}
	}
}

// Two directories whose calls are links to one program, which goes by where it is called.
func TestWrapOfDirectoriesOfOneProgram(t *testing.T) {
	program := build(t, "cmd/reflinksr")
	for name, install := range map[string]func(root string) error{
		"installed": func(root string) error { return exec.Command(program, "install", "--root", root).Run() },
		"linked": func(root string) error {
			if err := exec.Command(program, "install", "--root", root).Run(); err != nil {
				return err
			}
			for _, dir := range []string{"volume/org.xen.xapi.storage.reflink", "datapath/loop+blkback"} {
				own := filepath.Join(root, dir, "reflinksr")
				if err := os.Remove(own); err != nil {
					return err
				}
				if err := os.Symlink(program, own); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := install(root); err != nil {
				t.Fatal(err)
			}
			log := filepath.Join(t.TempDir(), "log")
			dirs := []string{filepath.Join(root, "volume", "org.xen.xapi.storage.reflink"), filepath.Join(root, "datapath", "loop+blkback")}
			answers := func() (all []string) {
				for _, dir := range dirs {
					for _, call := range []string{"Plugin.query", "Plugin.Query"} {
						c := exec.Command(filepath.Join(dir, call), "--json")
						c.Stdin = strings.NewReader(`{"dbg":"x"}`)
						out, err := c.CombinedOutput()
						all = append(all, fmt.Sprint(call, err, string(out)))
					}
				}
				return all
			}
			before := answers()
			if !strings.Contains(before[0], `"plugin":"reflink"`) || !strings.Contains(before[3], `"plugin":"loop+blkback"`) {
				t.Fatalf("%q", before)
			}
			for _, dir := range dirs {
				must(t, srtest("wrap", dir, log))
			}
			if wrapped := answers(); !slices.Equal(wrapped, before) {
				t.Errorf("%q\nwrapped: %q", before, wrapped)
			}
			for _, dir := range dirs {
				must(t, srtest("unwrap", dir))
			}
			if calls := readLog(t, log); len(calls) != 4 || calls[3].Plugin != "loop+blkback" || calls[3].Call != "Plugin.Query" {
				t.Errorf("%+v", calls)
			}
		})
	}
}

// What a plugin writes beside its calls is there when it is unwrapped, and what it removes
// is gone; and what it calls of its own is not recorded.
func TestWrapKeepsWhatThePluginWrites(t *testing.T) {
	dir := plugin(t, map[string]string{
		"Volume.create": "#!/bin/sh\ncd \"$(dirname \"$0\")\" && echo new >made && echo more >>grows && echo other >t && mv t replaced && rm gone && mkdir -p sub/deep && echo x >sub/deep/x && exec ./Volume.stat \"$@\"\n",
		"Volume.stat":   "#!/bin/sh\nls -a | grep -v srtest; cat made grows replaced sub/deep/x\n",
		"grows":         "some\n", "replaced": "one\n", "gone": "", "stays": "",
	})
	copied := filepath.Join(t.TempDir(), "volume", "plugin")
	if out, err := exec.Command("sh", "-c", `mkdir -p "$(dirname "$1")" && cp -a "$0" "$1"`, dir, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want, err := exec.Command(filepath.Join(copied, "Volume.create")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, want)
	}
	log := filepath.Join(t.TempDir(), "log")
	must(t, srtest("wrap", dir, log))
	got, err := exec.Command(filepath.Join(dir, "Volume.create")).CombinedOutput()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: %s, want %s", err, got, want)
	}
	must(t, srtest("unwrap", dir))
	nothingAside(t, dir)
	if after, err := exec.Command(filepath.Join(dir, "Volume.stat")).Output(); err == nil && len(after) > 0 {
		out, _ := exec.Command("diff", "-r", dir, copied).CombinedOutput()
		if len(out) > 0 {
			t.Errorf("it is not what it would be unwrapped:\n%s", out)
		}
	}
	if calls := readLog(t, log); len(calls) != 1 || calls[0].Call != "Volume.create" {
		t.Errorf("recorded: %+v", calls)
	}
}
