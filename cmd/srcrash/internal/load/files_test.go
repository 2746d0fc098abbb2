package load

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/scripts/tests"
)

// A thread has fsynced files 1 to 60 before the call, and removed those up to 20;
// until the answer it has begun file 62 and removed file 21.
func TestFiles(t *testing.T) {
	possible := span{lasting: 60, gone: 60 - 1 - ext4Kept, removing: 21, begun: 62}
	for _, test := range []struct {
		name   string
		change func(dir string) error
		want   verdict
	}{
		{"as before the call", func(string) error { return nil }, verdict{}},
		{"a file made during the call", add(61), verdict{}},
		{"a file removed during the call", remove(21), verdict{}},
		{"a file whose removal need not last yet", add(20), verdict{}},
		{"an unfinished draft", func(dir string) error { return os.WriteFile(filepath.Join(dir, "draft"), nil, 0o600) }, verdict{}},
		{"a file that was fsynced is missing", remove(60), verdict{Missing: 1}},
		{"one in the middle is missing", remove(22), verdict{Missing: 1}},
		{"a removed file is there again", add(19), verdict{OutOfOrder: 1}},
		{"a file that was begun after the answer", add(63), verdict{Future: 1}},
		{"a file is cut off", func(dir string) error {
			return os.Truncate(filepath.Join(dir, "40"), int64(len(text(3, 40))-1))
		}, verdict{Torn: 1}},
		{"a file has zeros at its end", func(dir string) error {
			half := int64(len(text(3, 40)) / 2)
			return errors.Join(os.Truncate(filepath.Join(dir, "40"), half), os.Truncate(filepath.Join(dir, "40"), int64(len(text(3, 40)))))
		}, verdict{Torn: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for n := int64(21); n <= 60; n++ {
				if err := add(n)(dir); err != nil {
					t.Fatal(err)
				}
			}
			if err := test.change(dir); err != nil {
				t.Fatal(err)
			}
			var got verdict
			if err := possible.check(3, dir, &got); err != nil {
				t.Fatal(err)
			}
			if got.Torn != test.want.Torn || got.OutOfOrder != test.want.OutOfOrder || got.Missing != test.want.Missing || got.Future != test.want.Future {
				t.Errorf("judged %+v, want %+v", got, test.want)
			}
		})
	}
}

func add(n int64) func(dir string) error {
	return func(dir string) error {
		return os.WriteFile(filepath.Join(dir, strconv.FormatInt(n, 10)), text(3, n), 0o600)
	}
}

func remove(n int64) func(dir string) error {
	return func(dir string) error { return os.Remove(filepath.Join(dir, strconv.FormatInt(n, 10))) }
}

// An ext4 that can be mounted, with every file whole, and whose inodes are wrong.
func TestUnsoundExt4(t *testing.T) {
	needsRoot(t)
	if err := needsExt4(); err != nil {
		tests.Skip(t, err)
	}
	if err := rig.PrivateHost(); err != nil {
		t.Fatal(err)
	}
	p, err := rig.Install(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b, err := makeBed(setup{"xfs", false}, p, filesystemSize(0), t.TempDir())
	defer func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}()
	if err != nil {
		t.Fatal(err)
	}
	d, err := b.create(ext4Size)
	if err != nil {
		t.Fatal(err)
	}
	plug, err := b.plugIn(d, "1", false)
	if err != nil {
		t.Fatal(err)
	}
	execute(t, "mkfs.ext4", "-q", "-F", plug.device)
	dir, err := mountExt4(b, plug, "disk")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "0"), 0o700), unix.Unmount(dir, 0)); err != nil {
		t.Fatal(err)
	}
	var sound, unsound verdict
	if err := judgeFiles(b, plug, make([]span, 1), &sound); err != nil || sound.wrong() != 0 {
		t.Fatalf("a sound ext4 is judged %+v, %v", sound, err)
	}
	const lostAndFound = "<11>"
	execute(t, "debugfs", "-w", "-R", "set_inode_field "+lostAndFound+" links_count 7", plug.device)
	if err := judgeFiles(b, plug, make([]span, 1), &unsound); err != nil {
		t.Fatal(err)
	}
	if unsound.Torn != 1 || !strings.Contains(unsound.Why[0], "e2fsck") {
		t.Errorf("an ext4 with a wrong link count is judged %+v", unsound)
	}
}

func execute(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}
