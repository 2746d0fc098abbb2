package sr

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/uuids"
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
	f.Add(aKey + "." + aKey + ThrowAwaySuffix)
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKey(s)
		if err == nil && (string(k) != s || len(s) != 36 || strings.Trim(s, "0123456789abcdef-") != "") {
			t.Errorf("%q is taken for a key", s)
		}
		if err != nil && (!errors.Is(err, fault.ErrVolumeNotFound) || len(err.Error()) > 500) {
			t.Errorf("%q: %v", s, err)
		}
		key, kind, ok := stagedName(s)
		if !ok {
			return
		}
		if _, err := ParseKey(string(key)); err != nil || string(key)+kind != s {
			t.Errorf("%q is taken for the staged %q of %q", s, kind, key)
		}
	})
}

func TestHandle(t *testing.T) {
	for _, path := range []string{"/srv/tank", "/", "/a b", "/q#1", "/q?2", "/100%", "/[x]", "/ü/é", "/new\nline", "/a+b&c=d;e"} {
		h := Handle(path, aKey)
		p, u, err := ParseHandle(h)
		if err != nil || p != path || u != aKey {
			t.Errorf("%q became %q, which is %q, %q, %v", path, h, p, u, err)
		}
	}
	for _, bad := range []string{
		"", "/srv/tank", "file:///srv/tank", "file://host/srv?uuid=" + aKey, "http:///srv?uuid=" + aKey,
		"file:///srv?uuid=x", "file:///srv/../etc?uuid=" + aKey, "file:srv?uuid=" + aKey,
		"file:///srv?uuid=" + aKey + "&x=1", "file:///srv?uuid=" + aKey + "#x", "file:///srv/.reflinksr/x?uuid=" + aKey,
	} {
		if p, u, err := ParseHandle(bad); !errors.Is(err, fault.ErrNotAttached) {
			t.Errorf("%q is taken for a handle: %q, %q, %v", bad, p, u, err)
		}
	}
}

// What is accepted is canonical: there is one handle of an SR, and never one of a
// directory inside another SR.
func FuzzParseHandle(f *testing.F) {
	f.Add(Handle("/srv/tank", aKey))
	f.Add(Handle("/a b/ü%#?[]\n", aKey))
	f.Add("file:///a%00b?uuid=" + aKey)
	f.Add("file:///a/../b?uuid=" + aKey)
	f.Fuzz(func(t *testing.T, s string) {
		path, uuid, err := ParseHandle(s)
		if err != nil {
			if !errors.Is(err, fault.ErrNotAttached) || len(err.Error()) > 500 {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if !filepath.IsAbs(path) || filepath.Clean(path) != path || !uuids.IsCanonical(uuid) || Handle(path, uuid) != s || len(path) > 4000 ||
			strings.ContainsRune(path, 0) || slices.Contains(strings.Split(path, "/"), controlDir) {
			t.Errorf("%q became %q, %q", s, path, uuid)
		}
	})
}

// A configuration is refused by the name of what is wrong with it, or is complete.
func FuzzConfiguration(f *testing.F) {
	f.Add("/srv/x", "512", "on", aKey, "colour")
	f.Add("/srv/../x/", "4096", "off", strings.ToUpper(aKey), "SRmaster")
	f.Add("/x/.reflinksr/staging", "0512", "", "", "path\x00")
	f.Fuzz(func(t *testing.T, path, sector, datacow, uuid, more string) {
		conf := map[string]string{more: "x", "path": path, "sr_uuid": uuid}
		if sector != "" {
			conf["sector_size"] = sector
		}
		if datacow != "" {
			conf["datacow"] = datacow
		}
		c, err := ParseConfiguration(conf)
		if err != nil {
			var e *fault.Error
			if !errors.As(err, &e) || e.Class != fault.ErrInvalid || OptionHelp[e.Item] == "" || len(err.Error()) > 500 {
				t.Errorf("%q: %v", conf, err)
			}
			return
		}
		if !filepath.IsAbs(c.Path) || filepath.Clean(c.Path) != c.Path || c.UUID != "" && !uuids.IsCanonical(c.UUID) ||
			c.Options.SectorSize != 512 && c.Options.SectorSize != 4096 {
			t.Errorf("%q became %+v", conf, c)
		}
		if p, u, err := ParseHandle(Handle(c.Path, aKey)); err != nil || p != c.Path || u != aKey {
			t.Errorf("%q is a path that has no handle: %q, %v", c.Path, p, err)
		}
		known := more == "path" || more == "sr_uuid" || OptionHelp[more] != "" || fromToolstack[more]
		if slices.Contains(c.Unknown, more) == known {
			t.Errorf("%q: unknown are %q", conf, c.Unknown)
		}
	})
}

func TestReflinkMounts(t *testing.T) {
	const mountinfo = `22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 7:0 / /srv/a\040b rw,relatime shared:1 - btrfs /dev/loop0 rw,space_cache
31 22 7:1 / /srv/x rw,relatime - xfs /dev/loop1 rw
32 31 0:5 / /srv/x rw - tmpfs tmpfs rw
garbage
33 22 7:2 / /srv/back\134slash rw,relatime - xfs /dev/loop2 rw
`
	got := reflinkMounts(mountinfo)
	if want := []string{"/srv/a b", `/srv/back\slash`}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A mount point is found whatever its path and its neighbours are made of; what is no
// mount of a filesystem that can share blocks is not.
func FuzzReflinkMounts(f *testing.F) {
	f.Add(`30 22 7:0 / /srv/a\040b rw shared:1 - btrfs /dev/loop0 rw`, "/srv/x")
	f.Add("31 22 7:1 / /srv/x rw - xfs /dev/loop1 rw\n32 31 0:5 / /srv/x rw - tmpfs t rw", `/a\ "\134b`+"\n\t#")
	f.Add(`30 22 7:0 / /\777\8\ rw - - - btrfs`, "/ - xfs ")
	f.Add("", "/a\u00a0b\rc\u2028")
	f.Fuzz(func(t *testing.T, others, path string) {
		if strings.ContainsRune(path, 0) || !filepath.IsAbs(path) {
			return
		}
		before := reflinkMounts(others)
		if len(before) > strings.Count(others, "\n")+1 {
			t.Errorf("%d mount points in %q", len(before), others)
		}
		// As the kernel writes it (seq_path_root, proc_pid_mountinfo(5)).
		line := "\n33 22 7:3 / " + strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(path) + " rw,relatime shared:7 - xfs /dev/loop3 rw\n"
		after := reflinkMounts(others + line)
		if !slices.Contains(after, path) {
			t.Errorf("%q is not found in %q", path, others+line)
		}
		for _, p := range before {
			if !slices.Contains(after, p) {
				t.Errorf("%q is not found any more in %q", p, others+line)
			}
		}
	})
}

func TestStagedName(t *testing.T) {
	for name, want := range map[string]string{
		aKey: "", aKey + ".inf": ".inf", aKey + ".inf.new": ".inf.new", aKey + ".revert": ".revert",
	} {
		if key, kind, ok := stagedName(name); !ok || string(key) != aKey || kind != want {
			t.Errorf("%s: %q, %q, %v", name, key, kind, ok)
		}
	}
	for _, name := range []string{"", "x", aKey + "x", aKey + ".bak", "lost+found", strings.ToUpper(aKey)} {
		if _, kind, ok := stagedName(name); ok {
			t.Errorf("%s is taken for ours, kind %q", name, kind)
		}
	}
}

func TestConfiguration(t *testing.T) {
	for _, tt := range []struct {
		conf map[string]string
		item string // "" if it is good
	}{
		{map[string]string{"path": "/srv/x"}, ""},
		{map[string]string{"path": "/srv/x", "sector_size": "4096", "datacow": "on", "SRmaster": "true"}, ""},
		{map[string]string{}, "path"},
		{map[string]string{"path": "srv"}, "path"},
		{map[string]string{"path": "/a\x00b"}, "path"},
		{map[string]string{"path": "/x/.reflinksr/staging"}, "path"},
		{map[string]string{"path": "/x", "sector_size": "1024"}, "sector_size"},
		{map[string]string{"path": "/x", "sector_size": "512.0"}, "sector_size"},
		{map[string]string{"path": "/x", "datacow": "yes"}, "datacow"},
		{map[string]string{"path": "/x", "sr_uuid": "x"}, "sr_uuid"},
	} {
		_, err := ParseConfiguration(tt.conf)
		var e *fault.Error
		switch {
		case tt.item == "" && err != nil:
			t.Errorf("%v: %v", tt.conf, err)
		case tt.item != "" && (!errors.As(err, &e) || e.Class != fault.ErrInvalid || e.Item != tt.item):
			t.Errorf("%v: %v, want the name of %s", tt.conf, err, tt.item)
		}
	}
	c, err := ParseConfiguration(map[string]string{"path": "/a/../b/", "colour": "blue"})
	if err != nil || c.Path != "/b" || !slices.Equal(c.Unknown, []string{"colour"}) || c.Options.SectorSize != 512 {
		t.Errorf("%+v, %v", c, err)
	}
}

// Whatever a marker is accepted as, a change of it takes effect and loses no member,
// known or not.
func FuzzMeta(f *testing.F) {
	f.Add([]byte(`{"format":1,"uuid":"` + aKey + `","name":"n","options":{"sector_size":512}}`))
	f.Add([]byte(`{"format":1,"uuid":"` + aKey + `","de\u017fcription":"d","filesystem":{"type":"xfs","uuid":"u","more":1},"options":{"sector_size":4096,"datacow":true,"other":"x"},"created":"2026-01-01T00:00:00+01:00"}`))
	f.Add([]byte(`{"format":2,"UUID":"` + aKey + `"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMeta("/srv/x", data)
		if err != nil {
			if class := fault.Classify(err); class != fault.ErrUnavailable && class != fault.ErrNewer {
				t.Errorf("%q: %v", data, err)
			}
			return
		}
		was := *m
		m.Name, m.Description = "another", "one"
		out, err := m.encode()
		if err != nil {
			return // longer than a record may be
		}
		again, err := parseMeta("/srv/x", out)
		if err != nil {
			t.Fatalf("%s became %s: %v", data, out, err)
		}
		if again.Name != "another" || again.Description != "one" {
			t.Errorf("a change of %s had no effect: %s", data, out)
		}
		if again.Format != was.Format || again.UUID != was.UUID || !again.Created.Equal(was.Created) || again.Filesystem != was.Filesystem || again.Options != was.Options {
			t.Errorf("a change of the name changed more than that: %s became %s", data, out)
		}
		if lost := missingMember(data, out); lost != "" {
			t.Errorf("%s became %s: %s was lost", data, out, lost)
		}
	})
}

// missingMember finds a member of an object, or of an object in it, that is not in
// the other.
func missingMember(was, is []byte) string {
	var before, after map[string]json.RawMessage
	if json.Unmarshal(was, &before) != nil || json.Unmarshal(is, &after) != nil {
		return ""
	}
	for name, value := range before {
		now, there := after[name]
		if !there {
			return name
		}
		if lost := missingMember(value, now); lost != "" {
			return name + "." + lost
		}
	}
	return ""
}

// What is noted of an attached SR is read as it was written, and its handle is one.
func FuzzAttachment(f *testing.F) {
	f.Add([]byte(`{"path":"/srv/x","uuid":"` + aKey + `","name":"n","description":""}`))
	f.Add([]byte(`{"path":"x/../..","uuid":"y","NAME":"\ud800"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parseAttachment(data, aKey)
		if err != nil {
			return
		}
		path, uuid, err := ParseHandle(a.handle())
		if err != nil || path != a.Path || uuid != aKey {
			t.Errorf("%s is the handle %q, %v", data, a.handle(), err)
		}
		out, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseAttachment(out, aKey); err != nil || again != a {
			t.Errorf("%+v became %+v, %v", a, again, err)
		}
	})
}

func TestCheckText(t *testing.T) {
	for _, good := range []string{"", "a\nb", "日本", strings.Repeat("x", TextLimit), "\u202eright to left", "💾"} {
		if err := CheckText("name", good); err != nil {
			t.Errorf("%.20q: %v", good, err)
		}
	}
	for _, bad := range []string{"\xff", strings.Repeat("x", TextLimit+1)} {
		if err := CheckText("name", bad); !errors.Is(err, fault.ErrInvalid) || !strings.Contains(err.Error(), `"name"`) {
			t.Errorf("%.20q: %v", bad, err)
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
		s := &SR{Path: dir, Root: root, control: control, Meta: &Meta{UUID: aKey, Filesystem: filesystem.Identity{Type: "ocfs2"}}}
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
		if err := os.WriteFile(filepath.Join(dir, sequenceFile), []byte(tt.noted), 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := s.Sequence(func() (int64, error) { return tt.highest, nil })
		if err != nil || n != tt.want {
			t.Errorf("after %q, with %d in the records: %d, %v, want %d", tt.noted, tt.highest, n, err, tt.want)
		}
	}
	os.Remove(filepath.Join(dir, sequenceFile))
	if _, err := s.Sequence(func() (int64, error) { return 0, unix.EIO }); !errors.Is(err, unix.EIO) {
		t.Errorf("an error of the disk is no sequence of 0: %v", err)
	}
}

// A file is not free while anybody has it open for writing: a process, or a mapping of one
// that has closed it. Who reads does not count.
func TestFileIsFree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := FileIsFree(path); err != nil {
		t.Errorf("absent: %v", err)
	}
	if err := os.WriteFile(path, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	free := func(when string) {
		t.Helper()
		if err := FileIsFree(path); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	refused := func(when, why string) {
		t.Helper()
		if err := FileIsFree(path); !errors.Is(err, fault.ErrSRInUse) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", when, err, why)
		}
	}
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	free("read")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "60")
	cmd.Stdin = f
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	mapping, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	refused("open", fmt.Sprintf("process %d (sleep) has it open for writing", cmd.Process.Pid))
	cmd.Process.Kill()
	cmd.Wait()
	refused("mapped", "by no process that can be seen")
	if err := unix.Munmap(mapping); err != nil {
		t.Fatal(err)
	}
	free("at the end")
}
