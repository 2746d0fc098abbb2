package sr

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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
		if k, err := ParseKey(bad); !errors.Is(err, ErrVolumeNotFound) || k != "" {
			t.Errorf("%q is taken for the key %q, %v", bad, k, err)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(aKey)
	f.Add("../../etc/passwd")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKey(s)
		if err == nil && (string(k) != s || len(s) != 36 || strings.Trim(s, "0123456789abcdef-") != "") {
			t.Errorf("%q is taken for a key", s)
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
		if p, u, err := ParseHandle(bad); !errors.Is(err, ErrNotAttached) {
			t.Errorf("%q is taken for a handle: %q, %q, %v", bad, p, u, err)
		}
	}
}

func FuzzParseHandle(f *testing.F) {
	f.Add(Handle("/srv/tank", aKey))
	f.Add("file:///a%00b?uuid=" + aKey)
	f.Fuzz(func(t *testing.T, s string) {
		path, uuid, err := ParseHandle(s)
		if err != nil {
			return
		}
		if !filepath.IsAbs(path) || filepath.Clean(path) != path || !canonical(uuid) || Handle(path, uuid) != s {
			t.Errorf("%q became %q, %q", s, path, uuid)
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

func FuzzReflinkMounts(f *testing.F) {
	f.Add(`30 22 7:0 / /srv/a\040b rw shared:1 - btrfs /dev/loop0 rw`)
	f.Fuzz(func(t *testing.T, s string) { reflinkMounts(s) })
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
		var e *Error
		switch {
		case tt.item == "" && err != nil:
			t.Errorf("%v: %v", tt.conf, err)
		case tt.item != "" && (!errors.As(err, &e) || e.Class != ErrInvalid || e.Item != tt.item):
			t.Errorf("%v: %v, want the name of %s", tt.conf, err, tt.item)
		}
	}
	c, err := ParseConfiguration(map[string]string{"path": "/a/../b/", "colour": "blue"})
	if err != nil || c.Path != "/b" || !slices.Equal(c.Unknown, []string{"colour"}) || c.Options.SectorSize != 512 {
		t.Errorf("%+v, %v", c, err)
	}
}

// A writer keeps the members that it does not know.
func TestRecordKeepsUnknown(t *testing.T) {
	type known struct {
		Name string `json:"name"`
	}
	var k known
	all, err := DecodeRecord([]byte(`{"name":"a","colour":{"r":1},"big":12345678901234567890}`), &k)
	if err != nil {
		t.Fatal(err)
	}
	k.Name = "b"
	data, err := EncodeRecord(k, all)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(data), `{"big":12345678901234567890,"colour":{"r":1},"name":"b"}`+"\n"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, bad := range []string{"", "null", "[]", `"x"`, "{", `{"name":1}`, `{"name":"a"} x`} {
		if _, err := DecodeRecord([]byte(bad), &k); err == nil {
			t.Errorf("%q is taken for a record", bad)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"format":1,"uuid":"` + aKey + `","name":"n","options":{"sector_size":512}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m Meta
		all, err := DecodeRecord(data, &m)
		if err != nil {
			return
		}
		out, err := EncodeRecord(m, all)
		if err != nil {
			t.Skip() // a year that JSON cannot write
		}
		var again map[string]json.RawMessage
		if err := json.Unmarshal(out, &again); err != nil {
			t.Fatal(err)
		}
		for name := range maps.Keys(all) {
			if _, ok := again[name]; !ok {
				t.Errorf("member %q was lost", name)
			}
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
		if err := CheckText("name", bad); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), `"name"`) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func TestClassify(t *testing.T) {
	for _, tt := range []struct{ err, want error }{
		{Errorf(ErrInUse, "x", "text"), ErrInUse},
		{fmt.Errorf("wrapped: %w", Errorf(ErrDamaged, "x", "text")), ErrDamaged},
		{&os.PathError{Op: "write", Err: unix.ENOSPC}, ErrNoSpace},
		{&os.PathError{Op: "write", Err: unix.EDQUOT}, ErrNoSpace},
		{&os.PathError{Op: "open", Err: unix.EROFS}, ErrReadOnly},
		{&os.LinkError{Op: "FICLONE", Err: unix.EXDEV}, ErrOtherFS},
		{unix.EIO, nil},
	} {
		if got := Classify(tt.err); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
}

// What a Dir opens is a regular file with one name, whatever was planted.
func TestDirRefusesWhatIsNoFile(t *testing.T) {
	base := t.TempDir()
	d, err := OpenDir(base)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(base, name) }
	for _, err := range []error{
		os.Symlink(secret, at("link")), os.Symlink("file", at("inner")), os.Mkdir(at("dir"), 0o700), unix.Mkfifo(at("fifo"), 0o600),
		os.WriteFile(at("file"), nil, 0o600), os.WriteFile(at("twice"), nil, 0o600), os.Link(at("twice"), at("again")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"link", "inner", "dir", "fifo", "twice", "again"} {
		if f, err := d.Open(name, unix.O_RDWR); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s was opened: %v, %v", name, f, err)
		}
		if there, err := d.Exists(name); err != nil || !there {
			t.Errorf("%s is not there: %v", name, err)
		}
	}
	if _, err := d.Open("none", unix.O_RDONLY); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
	if f, err := d.Create("link"); err == nil {
		t.Errorf("created through a link: %v", f.Name())
	}
	f, err := d.Open("file", unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := d.Sub("link"); err == nil {
		t.Error("a link is taken for a directory")
	}
}

// Whoever waited for a lock file that its holder unlinked locks the new one.
func TestDiscardedLock(t *testing.T) {
	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	first, err := d.Lock("l", "it")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.lockFile("l", "it", Exclusive, true); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "locked by") {
		t.Errorf("a held lock: %v", err)
	}
	got := make(chan *Lock)
	go func() {
		l, err := d.Lock("l", "it")
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	first.Discard()
	second := <-got
	if same, err := d.sameFile("l", second.f); err != nil || !same {
		t.Errorf("the second lock is on a file without a name: %v", err)
	}
	second.Unlock()
}
