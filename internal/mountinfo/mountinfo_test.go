package mountinfo

import (
	"slices"
	"testing"
)

const table = `22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 7:0 / /srv/a\040b rw,relatime shared:1 - btrfs /dev/loop0 rw,space_cache
31 22 7:1 /sub /srv/x rw,relatime shared:2 master:3 - xfs /dev/loop1 ro,noatime
32 31 0:50 / /srv/x/nfs rw - nfs4 10.0.0.1:/e\134x rw
33 22 0:51 / /mnt/fuse rw - fuse.sshfs host: rw
short
34 22 7:2 / relative rw - xfs /dev/loop2 rw
35 22 7:3 / /unfinished rw xfs
`

func TestParse(t *testing.T) {
	want := []Entry{
		{"22", "254:0", "/", "ext4", "/dev/vda", false, "/"},
		{"30", "7:0", "/srv/a b", "btrfs", "/dev/loop0", false, "/"},
		{"31", "7:1", "/srv/x", "xfs", "/dev/loop1", true, "/sub"},
		{"32", "0:50", "/srv/x/nfs", "nfs4", `10.0.0.1:/e\x`, false, "/"},
		{"33", "0:51", "/mnt/fuse", "fuse.sshfs", "host:", false, "/"},
	}
	if got := Parse(table); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestUnescape(t *testing.T) {
	for s, want := range map[string]string{`a\040b`: "a b", `\134\011\012`: "\\\t\n", `\`: `\`, `\04`: `\04`, `\999`: `\999`, `\777`: `\777`, `a\\040`: `a\ `, "": ""} {
		if got := unescape(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

// Far is only what is certain to be on another filesystem.
func TestNear(t *testing.T) {
	for _, c := range []struct {
		root, path string
		want       bool
	}{
		{"/srv/x", "/srv/x/f", true}, {"/srv/x", "/srv/x", true}, {"/srv/x", "/srv/x/nfs/f", false}, {"/srv/x", "/srv/a b/f", false},
		{"/srv/x", "/srv/xy/f", true}, // in the root filesystem, as whatever is in no mount that is to be seen
		{"/home", "/srv/x/f", false}, {"/home", "/etc/f", true}, {"/srv/x/nfs", "/srv/x/f", false}, {"/srv/x/nfs", "/elsewhere", true},
	} {
		if got := near(Parse(table), c.root)(c.path); got != c.want {
			t.Errorf("%s from %s: %v", c.path, c.root, got)
		}
	}
	if !near(nil, "/srv/x")("/srv/y") {
		t.Error("without a table something is certain")
	}
}

func TestRemote(t *testing.T) {
	for kind, want := range map[string]bool{"nfs": true, "nfs4": true, "fuse.sshfs": true, "9p": true, "xfs": false, "btrfs": false, "tmpfs": false, "ocfs2": false} {
		if IsRemote(kind) != want {
			t.Errorf("%s: not %v", kind, want)
		}
	}
	mounts := []string{"/srv/x/nfs/", "/mnt/fuse/"}
	for path, want := range map[string]bool{"/srv/x/nfs": true, "/srv/x/nfs/f": true, "/srv/x/nfsy": false, "/srv/x": false, "/": false} {
		if LeadsTo(path, mounts) != want {
			t.Errorf("%s: not %v", path, want)
		}
	}
	for _, path := range Remote() {
		if path[len(path)-1] != '/' {
			t.Errorf("%q is no beginning of paths", path)
		}
	}
	if entries, err := At("/"); err != nil || len(entries) == 0 {
		t.Errorf("nothing is mounted at /: %v, %v", entries, err)
	}
}
