package recording

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/smapi"
	"reflinksr/scripts/tests"
)

// state is all that must be the same afterwards.
func state(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := os.Lstat(path)
		if err != nil {
			return err
		}
		content := ""
		if st.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = string(data)
		}
		if st.Mode()&os.ModeSymlink != 0 {
			content, _ = os.Readlink(path)
		}
		fmt.Fprintf(&b, "%s %d %v %v %q\n", path, st.Sys().(*syscall.Stat_t).Ino, st.Mode(), st.ModTime(), content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const create = `#!/bin/sh
request=$(cat)
sleep 0.01
. "$(dirname "$0")/lib.sh"
answer "$request" "$(cat "$(dirname "$0")/share/text")"
`

func shPlugin(t *testing.T) string {
	dir := plugin(t, map[string]string{
		"Plugin.Query":  "#!/bin/sh\necho '{}'\n",
		"Volume.create": create,
		"lib.sh":        "answer() { echo \"$1 $2\"; }\n",
		"helper":        "#!/bin/sh\nexit 0\n",
		"SR.ls":         "#!/usr/bin/env python3\nimport sys\nprint(sys.stdin.read(), 'python')\n",
		"share/text":    "hello\n",
	})
	if err := os.Symlink("Volume.create", filepath.Join(dir, "Volume.clone")); err != nil {
		t.Fatal(err)
	}
	// A program that is no script.
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(cat, filepath.Join(dir, "Task.ls")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	return dir
}

func must(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", c.Args[2:], err, out)
	}
}

// A live plugin is wrapped and unwrapped again and again, and no call notices.
func TestWrapUnderCalls(t *testing.T) {
	dir := shPlugin(t)
	log := filepath.Join(t.TempDir(), "log")
	before := state(t, dir)
	var stop atomic.Bool
	var made, failed atomic.Int64
	var group sync.WaitGroup
	kinds := []struct{ name, want string }{
		{"Volume.create", "{\"n\":1} hello\n"}, {"Volume.clone", "{\"n\":1} hello\n"}, {"Plugin.Query", "{}\n"}, {"Task.ls", "{\"n\":1}"},
	}
	if _, err := exec.LookPath("python3"); err == nil {
		kinds = append(kinds, struct{ name, want string }{"SR.ls", "{\"n\":1} python\n"})
	}
	for i := range 2 * len(kinds) {
		group.Go(func() {
			for !stop.Load() {
				name, want := kinds[i%len(kinds)].name, kinds[i%len(kinds)].want
				c := exec.Command(filepath.Join(dir, name))
				var out, errs bytes.Buffer
				c.Stdin, c.Stdout, c.Stderr = strings.NewReader(`{"n":1}`), &out, &errs
				if err := c.Run(); err != nil || out.String() != want || errs.Len() > 0 {
					if failed.Add(1) < 5 {
						t.Errorf("%s: %v, %q, %q", name, err, out.String(), errs.String())
					}
				}
				made.Add(1)
			}
		})
	}
	times := tests.Share(4, 15)
	for range times {
		must(t, srtest("wrap", dir, log))
		if state(t, dir) == before {
			t.Error("nothing has changed")
		}
		for range 3 {
			exec.Command(filepath.Join(dir, "Plugin.Query"), "--json").Run()
		}
		must(t, srtest("unwrap", dir))
	}
	stop.Store(true)
	group.Wait()
	if after := state(t, dir); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	calls := readLog(t, log)
	if made.Load() < int64(times) || failed.Load() > 0 || len(calls) < 3*times {
		t.Errorf("%d calls, %d failed, %d recorded", made.Load(), failed.Load(), len(calls))
	}
	for _, c := range calls {
		if c.Plugin != "plugin" || !smapi.IsName(c.Call) {
			t.Fatalf("%+v", c)
		}
	}
	nothingAside(t, dir)
}

func nothingAside(t *testing.T, dir string) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(dir, "../../.srtest*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if beside, _ := os.ReadDir(filepath.Dir(dir)); len(beside) != 1 {
		t.Errorf("beside the plugin: %v", beside)
	}
}

func TestWrappedDirectory(t *testing.T) {
	dir := shPlugin(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := Wrap(dir, "/dev/full", self); err == nil || !strings.Contains(err.Error(), "nothing could be recorded") {
		t.Errorf("%v", err)
	}
	nothingAside(t, dir)
	log := filepath.Join(t.TempDir(), "log")
	must(t, srtest("wrap", dir+"/", log))
	// From now on it cannot be written.
	if err := errors.Join(os.Remove(log), os.Symlink("/dev/full", log)); err != nil {
		t.Fatal(err)
	}
	beside, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(beside) != 1 {
		t.Errorf("the toolstack would see %v", beside)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o750 {
		t.Errorf("%v", st.Mode())
	}
	if text, err := os.ReadFile(filepath.Join(dir, "share/text")); string(text) != "hello\n" {
		t.Error(err)
	}
	// By a relative path, and with a recording that cannot be written.
	c := exec.Command("./Volume.clone", "--json")
	c.Dir, c.Stdin = dir, strings.NewReader("{}")
	if out, err := c.Output(); string(out) != "{} hello\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	must(t, srtest("unwrap", dir))
	nothingAside(t, dir)
}

func TestWrapRefused(t *testing.T) {
	dir := shPlugin(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	self, _ := os.Executable()
	refused := func(err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	before := state(t, dir)
	_, err := Unwrap(dir)
	refused(err, "is not wrapped")
	refused(Wrap(link, "log", self), "symbolic link")
	refused(Wrap(filepath.Join(dir, "lib.sh"), "log", self), "is no directory")
	refused(Wrap(filepath.Join(dir, "share"), "log", self), "is no plugin")
	refused(Wrap(dir+"none", "log", self), "no such file")
	refused(Wrap(dir, "log", self+"none"), "no such file")
	if state(t, dir) != before {
		t.Error("a refusal changed something")
	}
	nothingAside(t, dir)
	must(t, srtest("wrap", dir, filepath.Join(t.TempDir(), "log")))
	refused(Wrap(dir, "log", self), "wrapped already")
	// A newer version of the plugin was installed over it.
	p, err := placeOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, filepath.Join(t.TempDir(), "away")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	refused(Wrap(dir, "log", self), "was replaced while it was wrapped")
	if !p.holdsPlugin() {
		t.Error("the original is gone")
	}
}

// Where directories cannot be exchanged, there are more states in which a crash
// may leave it: each is repaired.
func TestWrapCrashed(t *testing.T) {
	defer func(f func(a, b string) error) { exchange = f }(exchange)
	real := exchange
	self, _ := os.Executable()
	dir := shPlugin(t)
	before := state(t, dir)
	exchange = func(a, b string) error { return unix.EINVAL }
	if err := Wrap(dir, filepath.Join(t.TempDir(), "log"), self); err != nil {
		t.Fatal(err)
	}
	if left, err := Unwrap(dir); err != nil || left != "" || state(t, dir) != before {
		t.Fatalf("%q, %v", left, err)
	}
	nothingAside(t, dir)

	p, err := placeOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	third := filepath.Join(p.aside, "third")
	crashes := map[string]func(a, b string){
		"before the exchange": func(a, b string) {},
		"after the exchange":  func(a, b string) { real(a, b) },
		"after the first":     func(a, b string) { os.Rename(a, third) },
		"after the second":    func(a, b string) { os.Rename(a, third); os.Rename(b, a) },
	}
	for name, crash := range crashes {
		for _, wrapped := range []bool{false, true} {
			exchange = real
			if wrapped {
				if err := Wrap(dir, filepath.Join(t.TempDir(), "log"), self); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			exchange = func(a, b string) error { crash(a, b); panic("crash") }
			func() {
				defer func() { recover() }()
				if wrapped {
					Unwrap(dir)
				} else {
					crashedWrap(p, self)
				}
			}()
			exchange = real
			if _, err := Unwrap(dir); err != nil && !strings.HasSuffix(err.Error(), "is not wrapped") {
				t.Errorf("%s, wrapped %v: %v", name, wrapped, err)
			}
			if state(t, dir) != before {
				t.Fatalf("%s, wrapped %v:\n%s\nbefore:\n%s", name, wrapped, state(t, dir), before)
			}
			nothingAside(t, dir)
		}
	}
}

// crashedWrap is Wrap without what it does when it ends in order.
func crashedWrap(p place, program string) {
	if os.Mkdir(p.aside, 0o755) == nil && p.build(0o750, "log", program) == nil {
		swap(p.original, p.dir, filepath.Join(p.aside, "third"))
	}
}

// A call that outlasts Unwrap's timeout finds its plugin where it was.
func TestUnwrapUnderLongCall(t *testing.T) {
	dir := plugin(t, map[string]string{
		"Data.copy": "#!/bin/sh\necho up\nsleep 1.6\n. \"$(dirname \"$0\")/lib.sh\"\n",
		"lib.sh":    "echo done\n",
	})
	before := state(t, dir)
	must(t, srtest("wrap", dir, filepath.Join(t.TempDir(), "log")))
	c := exec.Command(filepath.Join(dir, "Data.copy"))
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	out.Read(make([]byte, 3))
	left, err := Unwrap(dir)
	if err != nil || left == "" || state(t, dir) != before {
		t.Errorf("%q, %v", left, err)
	}
	rest, _ := io.ReadAll(out)
	if err := c.Wait(); string(rest) != "done\n" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	if _, err := Unwrap(dir); err == nil {
		t.Error("unwrapped twice")
	}
	nothingAside(t, dir)
}
