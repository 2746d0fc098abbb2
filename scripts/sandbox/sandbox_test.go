package sandbox

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestParseFault(t *testing.T) {
	for text, want := range map[string]Fault{
		"fsync":                          {Call: "fsync", Errno: unix.EIO},
		"fsync:staging/*.inf":            {Call: "fsync", File: "staging/*.inf", Errno: unix.EIO},
		"renameat:*.inf=2":               {Call: "renameat", File: "*.inf", Errno: unix.EIO, Only: []int{2}},
		"LOOP_CONFIGURE:/dev/loop*=1,3":  {Call: "LOOP_CONFIGURE", File: "/dev/loop*", Errno: unix.EIO, Only: []int{1, 3}},
		"read:/run/reflinksr/sr/:x.json": {Call: "read", File: "/run/reflinksr/sr/:x.json", Errno: unix.EIO},
	} {
		if got, err := ParseFault("EIO", text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, %v; want %+v", text, got, err, want)
		}
	}
	if f, err := ParseFault("EOPNOTSUPP", "FICLONE"); err != nil || f.Errno != unix.EOPNOTSUPP {
		t.Errorf("%+v, %v", f, err)
	}
	for _, bad := range [][2]string{{"EIO", "fsnyc"}, {"EIO", "fsync=1"}, {"EIO", "fsync:"}, {"EIO", "fsync:[x"}, {"EIO", "fsync:x="},
		{"EIO", "fsync:x=0"}, {"EIO", "fsync:x=1,x"}, {"EIOU", "fsync"}, {"", "fsync"}} {
		if f, err := ParseFault(bad[0], bad[1]); err == nil {
			t.Errorf("%q is %+v", bad, f)
		}
	}
}

// Which call a fault meets: by its name, its file, and its number among those on such files.
func TestFaultMeets(t *testing.T) {
	s := Sandbox{Below: []string{"/scenario/", "/dev/loop"}, Dirs: []string{"/mnt/sr/.reflinksr", "/mnt/sr"}}
	for _, c := range []struct {
		fault string
		calls string // CALL FILE, in the order in which they are made; a ! after those that fail
	}{
		{"fsync", "fsync /scenario/a! write /scenario/a fsync /etc/b fsync /dev/loop3! fsync /scenario/a!"},
		{"fsync:*.inf", "fsync /mnt/sr/k.inf! fsync /mnt/sr/k fsync /mnt/sr/.reflinksr/staging/k.inf fsync /mnt/sr/l.inf! fsync /mnt/other/k.inf"},
		{"fsync:staging/*.inf=2", "fsync /mnt/sr/.reflinksr/staging/a.inf fsync /mnt/sr/.reflinksr/staging/b fsync /mnt/sr/a.inf fsync /mnt/sr/.reflinksr/staging/b.inf! fsync /mnt/sr/.reflinksr/staging/c.inf"},
		{"fsync:.", "fsync /mnt/sr! fsync /mnt/sr/.reflinksr fsync /mnt fsync /mnt/sr/k"},
		{"fsync:.reflinksr", "fsync /mnt/sr fsync /mnt/sr/.reflinksr!"},
		{"write:staging/KEY", "write /mnt/sr/.reflinksr/staging/01234567-89ab-4def-8123-456789abcdef! " +
			"write /mnt/sr/.reflinksr/staging/01234567-89ab-4def-8123-456789abcdef.inf write /mnt/sr/01234567-89ab-4def-8123-456789abcdef"},
		{"fsync:staging", "fsync /mnt/sr/.reflinksr/staging! fsync /mnt/sr/.reflinksr/staging/k"},
		{"renameat:k=1,3", "renameat /mnt/sr/k! renameat /mnt/sr/k renameat /mnt/sr/k! renameat2 /mnt/sr/k"},
		{"LOOP_CONFIGURE:/dev/loop*", "LOOP_CONFIGURE /dev/loop7! LOOP_CONFIGURE /dev/loop/7"},
		{"openat:/run/reflinksr/*/*", "openat /run/reflinksr/sr/x! openat /run/reflinksr/x openat run/reflinksr/sr/x"},
		{"openat:sr.json", "openat /mnt/sr/sr.json! openat /mnt/srx/sr.json openat /mnt/sr/x/sr.json"},
	} {
		f, err := ParseFault("EIO", c.fault)
		if err != nil {
			t.Fatal(err)
		}
		s.Faults = []Fault{f}
		made := make([]int, 1)
		var got []string
		words := strings.Fields(c.calls)
		for i := 0; i < len(words); i += 2 {
			file := strings.TrimSuffix(words[i+1], "!")
			if s.note(&strings.Builder{}, made, words[i], file) != nil {
				file += "!"
			}
			got = append(got, words[i], file)
		}
		if strings.Join(got, " ") != c.calls {
			t.Errorf("%s:\ngot  %s\nwant %s", c.fault, strings.Join(got, " "), c.calls)
		}
	}
}

// Of two faults about one call each counts it, and the first that says so has it fail.
func TestFaultsCountTogether(t *testing.T) {
	s := Sandbox{Dirs: []string{"/sr"}, Faults: []Fault{
		{Call: "fsync", File: "*", Errno: unix.EIO, Only: []int{2}},
		{Call: "fsync", File: "k", Errno: unix.ENOSPC, Only: []int{2, 3}},
	}}
	made := make([]int, 2)
	for i, want := range []unix.Errno{0, unix.EIO, unix.ENOSPC} {
		got := unix.Errno(0)
		if f := s.note(&strings.Builder{}, made, "fsync", "/sr/k"); f != nil {
			got = f.Errno
		}
		if got != want {
			t.Errorf("call %d: %v, want %v", i+1, got, want)
		}
	}
}

// A fault that never came to pass proves nothing, and is said to.
func TestMissed(t *testing.T) {
	for hits, want := range map[string]bool{
		"": false, "hit fsync:k=2\n": true, "seen fsync k\nhit fsync:k=2\n": true, "hit fsync:k=1\n": false, "hit fsync:k=22\n": false,
		"hit write:k=2\n": false, "hit fsync=2\n": false, "seen fsync k\n": false,
	} {
		path := filepath.Join(t.TempDir(), "hits")
		if err := os.WriteFile(path, []byte(hits), 0o600); err != nil {
			t.Fatal(err)
		}
		s := Sandbox{Hits: path, Faults: []Fault{{Call: "fsync", File: "k", Errno: unix.EIO, Only: []int{2}}}}
		if err := s.Missed(); (err == nil) != want {
			t.Errorf("%q: %v", hits, err)
		} else if strings.Contains(hits, "seen") && err != nil && !strings.Contains(err.Error(), "fsync was made on k") {
			t.Errorf("%q: %v: what was made is not said", hits, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%q is counted again", hits)
		}
	}
	if err := (Sandbox{Hits: "none", Faults: []Fault{{Call: "fsync"}}}).Missed(); err == nil {
		t.Error("no call at all is no fault")
	}
	if err := (Sandbox{}).Missed(); err != nil {
		t.Error(err)
	}
}

// A call is on the file of its descriptor, or on the path that it is given; a rename is of
// what it makes.
func TestFileOfCall(t *testing.T) {
	at, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	file := filepath.Join(at.Name(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	opened, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	text := func(s string) uint64 {
		b, err := unix.BytePtrFromString(s)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = *b }) // it is there until then
		return uint64(uintptr(unsafe.Pointer(b)))
	}
	cwd, dir, fd := uint64(0xffffff9c), uint64(at.Fd()), uint64(opened.Fd()) // AT_FDCWD as the kernel passes an int on
	for _, c := range []struct {
		number int32
		args   [6]uint64
		want   string
	}{
		{unix.SYS_FSYNC, [6]uint64{fd}, "fsync " + file},
		{unix.SYS_FSYNC, [6]uint64{dir}, "fsync " + at.Name()},
		{unix.SYS_OPENAT, [6]uint64{dir, text("file")}, "openat " + file},
		{unix.SYS_OPENAT, [6]uint64{dir, text("/dev/null")}, "openat /dev/null"},
		{unix.SYS_UNLINKAT, [6]uint64{cwd, text("x/y")}, "unlinkat " + wd + "/x/y"},
		{unix.SYS_RENAMEAT, [6]uint64{cwd, text("from"), dir, text("to")}, "renameat " + at.Name() + "/to"},
		{unix.SYS_RENAMEAT2, [6]uint64{dir, text("from"), dir, text("to"), 1}, "renameat2 " + at.Name() + "/to"},
		{unix.SYS_IOCTL, [6]uint64{fd, unix.FICLONE, dir}, "FICLONE " + file},
		{unix.SYS_IOCTL, [6]uint64{fd, unix.FS_IOC_GETFLAGS}, ""},
		{unix.SYS_CLOSE, [6]uint64{fd}, ""},
	} {
		n := notification{pid: uint32(os.Getpid()), number: c.number, args: c.args}
		got := n.named()
		if got != "" {
			got += " " + calls[got].file(n)
		}
		if got != c.want {
			t.Errorf("system call %d: %q, want %q", c.number, got, c.want)
		}
	}
}
