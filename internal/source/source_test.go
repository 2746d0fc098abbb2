package source

import (
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"reflinksr/internal/fault"
	"reflinksr/internal/mount"
)

const aKey = "365c68ee-966a-4644-880d-1122a36ab9a1"

func TestSources(t *testing.T) {
	for _, tt := range []struct {
		conf map[string]string
		item string // what is refused; "" if it is good
	}{
		{map[string]string{"device": "/dev/sdb"}, ""},
		{map[string]string{"device": "/dev/disk/by-id/a b", "filesystem": "btrfs", "wipe": "yes", "datacow": "on"}, ""},
		{map[string]string{"device": "sdb"}, "device"},
		{map[string]string{"device": ""}, "device"},
		{map[string]string{"device": "/dev/a\nb"}, "device"},
		{map[string]string{"device": "/dev/" + strings.Repeat("x", 2000)}, "device"},
		{map[string]string{"device": "/dev/sdb", "filesystem": "ext4"}, "filesystem"},
		{map[string]string{"device": "/dev/sdb", "mkfs": "template"}, ""},
		{map[string]string{"device": "/dev/sdb", "mkfs": "program", "filesystem": "btrfs"}, ""},
		{map[string]string{"device": "/dev/sdb", "mkfs": "template", "filesystem": "btrfs"}, "mkfs"},
		{map[string]string{"device": "/dev/sdb", "mkfs": "mkfs.xfs"}, "mkfs"},
		{map[string]string{"device": "/dev/sdb", "mkfs": ""}, "mkfs"},
		{map[string]string{"path": "/srv", "mkfs": "program"}, "mkfs"},
		{map[string]string{"device": "/dev/sdb", "wipe": "1"}, "wipe"},
		{map[string]string{"device": "/dev/sdb", "filesystem_uuid": "x"}, "filesystem_uuid"},
		{map[string]string{"device": "/dev/sdb", "path": "/srv"}, "path|device"},
		{map[string]string{"device": "/dev/sdb", "server": "a", "serverpath": "/b"}, "server|device"},
		{map[string]string{"path": "/srv", "serverpath": "/b"}, "serverpath"},
		{map[string]string{"path": "/srv", "wipe": "no"}, "wipe"},
		{map[string]string{"server": "a", "serverpath": "/b"}, ""},
		{map[string]string{"server": "a"}, "serverpath"},
		{map[string]string{"serverpath": "/b"}, "serverpath"},
		{map[string]string{"server": "a", "serverpath": "b"}, "serverpath"},
		{map[string]string{"server": "a", "serverpath": "/b\x00"}, "serverpath"},
		{map[string]string{"server": "a,sec=none", "serverpath": "/b"}, "server"},
		{map[string]string{"server": "", "serverpath": "/b"}, "server"},
	} {
		_, err := Parse(tt.conf)
		var e *fault.Error
		switch {
		case tt.item == "" && err != nil:
			t.Errorf("%v: %v", tt.conf, err)
		case tt.item != "" && (!errors.As(err, &e) || e.Class != fault.ErrInvalid || !strings.Contains("|"+tt.item+"|", "|"+e.Item+"|")):
			t.Errorf("%v: %v, want the name of %s", tt.conf, err, tt.item)
		}
	}
}

// An SR of a device is looked for by the UUID of its filesystem, which is its own unless
// the configuration says another, and goes with the SR only then.
func TestComplete(t *testing.T) {
	const other = "0d6ad0a2-22ab-4b40-9a4a-3a2d8a2a2c11"
	for _, tt := range []struct {
		conf  map[string]string
		path  string
		fs    string
		whole bool
	}{
		{map[string]string{"device": "/dev/sdb", "sr_uuid": strings.ToUpper(aKey)}, mount.Dir + "/" + aKey, aKey, true},
		{map[string]string{"device": "/dev/sdb", "sr_uuid": aKey, "filesystem_uuid": other}, mount.Dir + "/" + aKey, other, false},
		{map[string]string{"server": "a", "serverpath": "/b", "sr_uuid": aKey}, mount.Dir + "/" + aKey, "", false},
		{map[string]string{"path": "/srv/x", "sr_uuid": aKey}, "/srv/x", "", false},
	} {
		c, err := Parse(tt.conf)
		if err != nil || c.Path != tt.path || c.FilesystemUUID != tt.fs || c.OwnsFilesystem() != tt.whole {
			t.Errorf("%v became %+v, whole %v, %v", tt.conf, c, c.OwnsFilesystem(), err)
		}
	}
}

// What mount(2) is told of an export.
func TestExport(t *testing.T) {
	for _, tt := range []struct{ server, path, ip, source, data string }{
		{"filer", "/vol/a,b", "10.0.0.1", "filer:/vol/a,b", "vers=4.2,hard,addr=10.0.0.1"},
		{"10.0.0.1", "/x/../vol/", "10.0.0.1", "10.0.0.1:/vol", "vers=4.2,hard,addr=10.0.0.1"},
		{"[fd00::0:1]", "/vol", "fd00::1", "[fd00::1]:/vol", "vers=4.2,hard,addr=fd00::1"},
		{"FD00::1", "/vol", "fd00::1", "[fd00::1]:/vol", "vers=4.2,hard,addr=fd00::1"},
	} {
		c, err := Parse(map[string]string{"server": tt.server, "serverpath": tt.path})
		if err != nil {
			t.Errorf("%s: %v", tt.server, err)
			continue
		}
		m := c.mountableExport(netip.MustParseAddr(tt.ip))
		if m.Source != tt.source || m.Data != tt.data || m.Kind != "nfs4" {
			t.Errorf("%s:%s is mounted as %+v", tt.server, tt.path, m)
		}
		if ip, err := resolve(c.Server); tt.server != "filer" && (err != nil || ip.String() != tt.ip) {
			t.Errorf("%s has the address %v, %v", c.Server, ip, err)
		}
	}
}

// Whatever is accepted as a server is one option of mount(2) at most, and accepted again.
func FuzzServer(f *testing.F) {
	for _, s := range []string{"filer.example.org", "10.0.0.1", "[fd00::1]", "::1", "fe80::1%eth0", "a,b", "-x", "[", "[]", "a:/b", "1.2.3.4]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, server string) {
		clean, err := cleanServer(server)
		if err != nil {
			if !errors.Is(err, fault.ErrInvalid) {
				t.Errorf("%q: %v", server, err)
			}
			return
		}
		_, isIP := netip.ParseAddr(clean)
		if clean == "" || strings.ContainsAny(clean, ",=/ \t\n\x00%[]\\") || isIP != nil && strings.Contains(clean, ":") {
			t.Errorf("%q became %q", server, clean)
		}
		if again, err := cleanServer(clean); err != nil || again != clean {
			t.Errorf("%q became %q, and that %q, %v", server, clean, again, err)
		}
	})
}

// What is noted of a mount is read as it was written, and says where that is.
func FuzzMounted(f *testing.F) {
	f.Add([]byte(`{"device":"/dev/sdb","filesystem_uuid":"` + aKey + `","uuid":"` + aKey + `"}`))
	f.Add([]byte(`{"server":"a","serverpath":"/b","uuid":"` + aKey + `"}`))
	f.Add([]byte(`{"uuid":"` + aKey + `"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMounted(data, aKey)
		if err != nil {
			return
		}
		if c := m.Configuration(); c.Path != mount.Point(aKey) || c.UUID != aKey {
			t.Errorf("%s is of %+v", data, c)
		}
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseMounted(out, aKey); err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
	})
}

// What mkfs or SR.attach does not need to wait for: names that are the disk's own.
func TestOwnName(t *testing.T) {
	for path, want := range map[string]bool{
		"/dev/disk/by-id/wwn-0x5000c500a1b2c3d4": true, "/dev/disk/by-id/nvme-eui.0025385b": true,
		"/dev/disk/by-id/dm-uuid-mpath-3600": true, "/dev/disk/by-id/lvm-pv-uuid-x": false, "/dev/disk/by-id/dm-name-x": false,
		"/dev/disk/by-uuid/0a5f8a3e-3b0e-4c8c-9d53-0d7c0f8a2b11": false, "/dev/sdb": false, "/dev/mapper/wwn-x": false,
	} {
		if ownName(path) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}
