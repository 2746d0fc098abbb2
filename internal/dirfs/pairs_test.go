package dirfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// readPairs reads the pairs of names, and tells what was got of each.
func readPairs(d *Dir, pairs ...[2]string) map[string]string {
	var mutex sync.Mutex
	all := map[string]string{}
	d.ReadPairs(len(pairs), func(i int) (string, string) { return pairs[i][0], pairs[i][1] }, func(i int, data []byte, beside *unix.Stat_t) {
		mutex.Lock()
		defer mutex.Unlock()
		all[pairs[i][0]] = fmt.Sprintf("%s %d", data, beside.Size)
	})
	return all
}

// What is plain is read with what is beside it; of what is not nothing is said.
func TestPairs(t *testing.T) {
	path := t.TempDir()
	at := func(name string) string { return filepath.Join(path, name) }
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var pairs [][2]string
	for i := range 3 * pairsAtOnce {
		name := fmt.Sprint("file", i)
		if err := os.WriteFile(at(name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at(name+".data"), make([]byte, i), 0o600); err != nil {
			t.Fatal(err)
		}
		pairs = append(pairs, [2]string{name, name + ".data"})
	}
	odd := []string{"link", "fifo", "dir", "twice", "large", "alone", "linked", "absent"}
	for _, err := range []error{
		os.Symlink("file1", at("link")), unix.Mkfifo(at("fifo"), 0o600), os.Mkdir(at("dir"), 0o700), os.WriteFile(at("twice"), nil, 0o600),
		os.Link(at("twice"), at("again")), os.WriteFile(at("large"), make([]byte, pairLimit), 0o600), os.WriteFile(at("alone"), nil, 0o600),
		os.WriteFile(at("linked"), nil, 0o600), os.Symlink("file1.data", at("linked.data")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range odd {
		beside := "file1.data"
		if name == "alone" || name == "linked" {
			beside = name + ".data"
		}
		pairs = append(pairs, [2]string{name, beside})
	}
	before, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	all := readPairs(d, pairs...)
	for i := range 3 * pairsAtOnce {
		if name := fmt.Sprint("file", i); all[name] != fmt.Sprintf("%s %d", name, i) {
			t.Errorf("%s: %q", name, all[name])
		}
	}
	for _, name := range odd {
		if got, is := all[name]; is {
			t.Errorf("%s was read: %q", name, got)
		}
	}
	after, err := os.ReadDir("/proc/self/fd")
	if err != nil || len(after) != len(before) {
		t.Errorf("%d descriptors are open, before %d were, %v", len(after), len(before), err)
	}
}

// A file that was removed, or replaced, after it was opened is not read: as it has no link in the directory any more, the one
// that it is seen to have is elsewhere.
func TestPairsOfWhatWasRemoved(t *testing.T) {
	path := t.TempDir()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, end := range []string{"removed", "replaced", "kept"} {
		name, other := filepath.Join(path, end), filepath.Join(path, end+".other")
		for _, err := range []error{os.WriteFile(name, []byte(end), 0o600), os.WriteFile(other, nil, 0o600)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		var turn sync.Mutex
		b := batch{d: d, turn: &turn, buffer: make([]byte, pairLimit),
			names: func(int) (string, string) { return end, "kept.other" },
		}
		if err := os.WriteFile(filepath.Join(path, "kept.other"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		b.open(0, 1)
		elsewhere := filepath.Join(t.TempDir(), "elsewhere")
		for _, step := range map[string][]func() error{
			"removed":  {func() error { return os.Link(name, elsewhere) }, func() error { return os.Remove(name) }},
			"replaced": {func() error { return os.Rename(other, name) }},
		}[end] {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		anew, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		b.look(anew)
		b.openAnew(anew)
		if data, ok := b.files[0].read(b.buffer); ok != (end == "kept") {
			t.Errorf("%s: read %v, %s", end, ok, strings.TrimSpace(string(data)))
		}
		b.close()
		unix.Close(anew)
	}
}
