package trace

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	Hook()
	if dir := os.Getenv("TRACE_TEST_WRITERS"); dir != "" {
		writers(dir)
		os.Exit(0)
	}
	switch os.Getenv("TRACE_TEST_UNSEEN") {
	case "personality":
		unix.Syscall(unix.SYS_PERSONALITY, 0xffffffff, 0, 0) // asks for it
		os.Exit(0)
	case "io_uring":
		unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0)
		os.Exit(0)
	case "mapping":
		f, err := os.OpenFile(os.Getenv("TRACE_TEST_FILE"), os.O_RDWR, 0)
		if err == nil {
			_, err = unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		}
		if err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// writers makes a file from each of eight threads.
func writers(dir string) {
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), []byte("hello"), 0o600); err != nil {
				os.Exit(3)
			}
		})
	}
	all.Wait()
}

// sweep runs the writers with an action at their n-th change, and says whether it came to that.
func sweep(t *testing.T, dir string, n int, a Action) (r Result, reached bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	r, err = Run(Command{Path: self, Env: append(os.Environ(), "TRACE_TEST_WRITERS="+dir), Stop: func(s *Stop) Action {
		if s.Kind != Change || !s.Below(dir) {
			return Action{}
		}
		if count++; count != n {
			return Action{}
		}
		reached = true
		return a
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r, reached
}

// What strace's injection misses: calls are counted over all threads together.
func TestEveryCallOfEveryThread(t *testing.T) {
	names := func(dir string) int {
		all, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	points := 0
	for n := 1; ; n++ {
		dir := t.TempDir()
		r, reached := sweep(t, dir, n, Action{Kill: true})
		if !reached {
			points = n - 1
			if !r.Succeeded() || names(dir) != 8 {
				t.Errorf("undisturbed it ended with %v and made %d files", r.Status, names(dir))
			}
			break
		}
		if !r.Status.Signaled() || r.Status.Signal() != unix.SIGKILL {
			t.Errorf("killed at call %d it ended with %v", n, r.Status)
		}
		if n == 1 && names(dir) != 0 {
			t.Errorf("killed before its first change it had made %d files", names(dir))
		}
	}
	if points != 16 { // one open and one write each
		t.Errorf("%d calls were seen, want 16", points)
	}
}

func TestActions(t *testing.T) {
	contents := func(dir string) (all []string) {
		for i := range 8 {
			data, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(i)))
			if err == nil {
				all = append(all, string(data))
			}
		}
		return all
	}
	dir := t.TempDir()
	if r, _ := sweep(t, dir, 1, Action{Errno: syscall.ENOSPC}); r.Status.ExitStatus() != 3 || len(contents(dir)) > 7 {
		t.Errorf("with ENOSPC it ended with %v and made %q", r.Status, contents(dir))
	}
	// The rest of a short write is written after all.
	for n := 1; n <= 16; n++ {
		dir = t.TempDir()
		if r, _ := sweep(t, dir, n, Action{Short: true}); r.Status.ExitStatus() == 0 && strings.Join(contents(dir), "") != strings.Repeat("hello", 8) {
			t.Errorf("with a short write at %d it made %q", n, contents(dir))
		}
	}
	dir = t.TempDir()
	if r, _ := sweep(t, dir, 5, Action{Signal: unix.SIGTERM}); !r.Status.Signaled() || r.Status.Signal() != unix.SIGTERM {
		t.Errorf("with SIGTERM it ended with %v", r.Status)
	}
}

// A shell's children are followed, and what they print is kept.
func TestChildren(t *testing.T) {
	dir := t.TempDir()
	var seen []string
	r, err := Run(Command{Path: "/bin/sh", Args: []string{"-c", "mkdir a; (cat > a/b) ; mv a/b a/c; echo done"}, Dir: dir, Stdin: []byte("text"), Stop: func(s *Stop) Action {
		if s.Kind == Change && s.Below(dir) {
			seen = append(seen, strings.ReplaceAll(s.String(), dir, ""))
		}
		return Action{}
	}})
	if err != nil || !r.Succeeded() || string(r.Stdout) != "done\n" {
		t.Errorf("%+v, %v", r, err)
	}
	text := strings.Join(seen, "\n")
	for _, want := range []string{"mkdir /a", "/a/b", "/a/b /a/c"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// What cannot be seen, or is not known, is an error and not passed over.
func TestUnseen(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	for how, want := range map[string]string{"personality": "nobody has said", "io_uring": "asynchronous", "mapping": "shared and writable"} {
		_, err := Run(Command{Path: self, Env: append(os.Environ(), "TRACE_TEST_UNSEEN="+how, "TRACE_TEST_FILE="+file)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", how, err, want)
		}
	}
}
