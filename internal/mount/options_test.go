package mount

import "testing"

// btrfs always shows all of itself, and empty options are none.
func TestOptions(t *testing.T) {
	for _, c := range []struct {
		kind string
		more []string
		want string
	}{
		{"xfs", nil, ""}, {"xfs", []string{"", "a", "", "b=c"}, "a,b=c"}, {"btrfs", nil, "subvolid=5"}, {"btrfs", []string{"", "device=/dev/b"}, "subvolid=5,device=/dev/b"}, {"nfs4", []string{"vers=4.2"}, "vers=4.2"},
	} {
		if got := Options(c.kind, c.more...); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.kind, c.more, got, c.want)
		}
	}
	if got := Point("u"); got != Dir+"/u" {
		t.Error(got)
	}
}
