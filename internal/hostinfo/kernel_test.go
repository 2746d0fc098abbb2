package hostinfo

import "testing"

// Versions are compared by their numbers, and one that cannot be read is before all others.
func TestKernel(t *testing.T) {
	for _, c := range []struct {
		release      string
		major, minor int
		want         bool
	}{
		{"4.19.0+1", 4, 19, true},
		{"4.19.0+1", 5, 4, false},
		{"5.4.0-200-generic", 5, 4, true},
		{"5.15.0", 5, 4, true},
		{"6.1.0-28-amd64", 5, 4, true},
		{"6.18.44", 6, 2, true},
		{"6.1.0", 6, 2, false},
		{"10.0-rc1", 6, 2, true},
		{"2.6.78", 5, 4, false},
		{"", 0, 1, false},
		{"next", 4, 19, false},
		{"6", 5, 4, false},
	} {
		if got := kernelOf(c.release).AtLeast(c.major, c.minor); got != c.want {
			t.Errorf("%q since %d.%d: %v", c.release, c.major, c.minor, got)
		}
	}
	if !ThisKernel().AtLeast(2, 6) {
		t.Errorf("this kernel is %+v", ThisKernel())
	}
}
