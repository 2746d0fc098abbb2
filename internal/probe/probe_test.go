package probe

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

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
