package sr

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
)

const aKey = "365c68ee-966a-4644-880d-1122a36ab9a1"

func TestParseKey(t *testing.T) {
	if k, err := ParseKey(aKey); err != nil || string(k) != aKey {
		t.Errorf("%q, %v", k, err)
	}
	for _, bad := range []string{
		"", ".", "..", "../x", "/etc/passwd", aKey[:35], aKey + "0", strings.ToUpper(aKey),
		"{" + aKey[1:35] + "}", "urn:uuid:" + aKey, strings.ReplaceAll(aKey, "-", ""), aKey[:35] + "\x00",
		aKey[:35] + "/", "365c68ee-966a-4644-880d-1122a36ab9g1", "%2e%2e", aKey + ".inf", " " + aKey[1:],
	} {
		if k, err := ParseKey(bad); !errors.Is(err, fault.ErrVolumeNotFound) || k != "" {
			t.Errorf("%q is taken for the key %q, %v", bad, k, err)
		}
	}
}

// What is a key is one to everybody, and a safe name of a file; a staged file's name
// is a key and a kind, and nothing else.
func FuzzParseKey(f *testing.F) {
	f.Add(aKey)
	f.Add("../../etc/passwd")
	f.Add(aKey + ".inf.new")
	f.Add(aKey + "." + aKey + NonpersistentSuffix)
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKey(s)
		if err == nil && (string(k) != s || len(s) != 36 || strings.Trim(s, "0123456789abcdef-") != "") {
			t.Errorf("%q is taken for a key", s)
		}
		if err != nil && (!errors.Is(err, fault.ErrVolumeNotFound) || len(err.Error()) > 500) {
			t.Errorf("%q: %v", s, err)
		}
		key, kind, ok := StagedName(s)
		if !ok {
			return
		}
		if _, err := ParseKey(string(key)); err != nil || string(key)+kind != s {
			t.Errorf("%q is taken for the staged %q of %q", s, kind, key)
		}
	})
}

func TestStagedName(t *testing.T) {
	for name, want := range map[string]string{
		aKey: "", aKey + ".inf": ".inf", aKey + ".inf.new": ".inf.new", aKey + ".revert": ".revert",
	} {
		if key, kind, ok := StagedName(name); !ok || string(key) != aKey || kind != want {
			t.Errorf("%s: %q, %q, %v", name, key, kind, ok)
		}
	}
	for _, name := range []string{"", "x", aKey + "x", aKey + ".bak", "lost+found", strings.ToUpper(aKey)} {
		if _, kind, ok := StagedName(name); ok {
			t.Errorf("%s is taken for ours, kind %q", name, kind)
		}
	}
}

// Every number is greater than those before, whoever asks at the same time, and whatever
// became of what was noted.
func TestSequence(t *testing.T) {
	dir := t.TempDir()
	open := func() *SR {
		root, err := dirfs.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		control, err := root.Sub(".")
		if err != nil {
			t.Fatal(err)
		}
		s := &SR{Path: dir, Root: root, Control: control, Meta: &layout.Meta{UUID: aKey, Filesystem: filesystem.Identity{Type: "ocfs2"}}}
		t.Cleanup(s.Close)
		return s
	}
	const many, each = 8, 25
	var wait sync.WaitGroup
	given := make([][]int64, many)
	for i := range many {
		s := open()
		wait.Go(func() {
			for range each {
				n, err := s.Sequence(func() (int64, error) { return 41, nil })
				if err != nil {
					t.Error(err)
				}
				given[i] = append(given[i], n)
			}
		})
	}
	wait.Wait()
	var all []int64
	for _, numbers := range given {
		if !slices.IsSorted(numbers) {
			t.Errorf("%v does not rise", numbers)
		}
		all = append(all, numbers...)
	}
	slices.Sort(all)
	if len(slices.Compact(all)) != many*each || all[0] != 42 || all[len(all)-1] != 41+many*each {
		t.Errorf("%v", all)
	}
	s := open()
	for _, tt := range []struct {
		noted   string
		highest int64
		want    int64
	}{
		{"0000000000000000007\n", 100, 8},
		{"", 100, 101},
		{"0000000000000000007", 100, 101},
		{"0000000000000000007\nx", 100, 101},
		{"-000000000000000007\n", 100, 101},
		{"9999999999999999999\n", 100, 101},
		{"rubbish", 0, 1},
		{fmt.Sprintf(sequenceFormat, int64(MaxSequence)), 1, MaxSequence},
	} {
		if err := os.WriteFile(filepath.Join(dir, layout.SequenceFile), []byte(tt.noted), 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := s.Sequence(func() (int64, error) { return tt.highest, nil })
		if err != nil || n != tt.want {
			t.Errorf("after %q, with %d in the records: %d, %v, want %d", tt.noted, tt.highest, n, err, tt.want)
		}
	}
	os.Remove(filepath.Join(dir, layout.SequenceFile))
	if _, err := s.Sequence(func() (int64, error) { return 0, unix.EIO }); !errors.Is(err, unix.EIO) {
		t.Errorf("an error of the disk is no sequence of 0: %v", err)
	}
}
