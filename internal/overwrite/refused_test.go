package overwrite

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/attached"
	"reflinksr/internal/blockdev"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
)

// What a tool must not write to is refused whatever may be destroyed.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		why    string
		target target
		class  error
		says   string
	}{
		{"a disk that is long enough", target{size: 100}, nil, ""},
		{"a longer one", target{size: 101}, nil, ""},
		{"too short", target{size: 99}, fault.ErrSize, "has 99 bytes, and needs 100"},
		{"a guest's", target{size: 100, owner: "volume v"}, fault.ErrSRInUse, "it is volume v"},
		{"one that dom0 was given", target{size: 100, owner: "volume v", own: true}, nil, ""},
		{"one that dom0 was given, half of a mirror", target{size: 100, owner: "volume v", own: true, member: "a part of m"}, fault.ErrSRInUse, "write to that"},
		{"half of a mirror", target{size: 100, member: "a part of m"}, fault.ErrSRInUse, "is a part of m"},
	} {
		c.target.path = "/dev/x"
		err := c.target.refused(100)
		if !errors.Is(err, c.class) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.why, err)
		}
	}
}

// A guest's disk is dom0's to write to only if it has it alone, and to write.
func TestIsDom0s(t *testing.T) {
	for note, want := range map[string]bool{
		`{}`:                false,
		`{"domains":["0"]}`: false,
		`{"domains":["0"],"active":[{"domain":"0","write":false}]}`:                                       false,
		`{"domains":["0"],"active":[{"domain":"0","write":true}]}`:                                        true,
		`{"domains":["u0_x"],"active":[{"domain":"u0_x","write":true}]}`:                                  true,
		`{"domains":["srctl"],"active":[{"domain":"srctl","write":true}]}`:                                true,
		`{"domains":["srctl"],"active":[{"domain":"srctl","write":false}]}`:                               false,
		`{"domains":["srctl-mount"],"active":[{"domain":"srctl-mount","write":true}]}`:                    false,
		`{"domains":["0","5"],"active":[{"domain":"0","write":true}]}`:                                    false,
		`{"domains":["5"],"active":[{"domain":"5","write":true}]}`:                                        false,
		`{"domains":["0"],"active":[{"domain":"5","write":true}]}`:                                        false,
		`{"domains":["0","u0_x"],"active":[{"domain":"0","write":false},{"domain":"u0_x","write":true}]}`: true,
	} {
		var n attached.Note
		if err := json.Unmarshal([]byte(note), &n); err != nil {
			t.Fatal(err)
		}
		if got := isDom0s(&n); got != want {
			t.Errorf("%s: %v", note, got)
		}
	}
}

// A disk with anything on it is refused, but for what an interrupted call of ours left, if
// that is certain.
func TestContentRefused(t *testing.T) {
	ours, theirs := blockdev.Superblock{Kind: "xfs", Label: layout.DiskLabel}, blockdev.Superblock{Kind: "xfs", Label: "data"}
	for _, c := range []struct {
		why       string
		content   content
		sb        blockdev.Superblock
		mayBeLeft bool
		left      bool
		doubt     error
		refused   bool
	}{
		{"blank", content{}, blockdev.Superblock{}, false, false, nil, false},
		{"somebody's filesystem", content{what: "xfs", ours: true}, theirs, false, false, nil, true},
		{"a filesystem of ours beside something", content{what: "xfs"}, ours, false, false, nil, true},
		{"one of ours with an SR in it", content{what: "xfs", ours: true}, ours, true, false, nil, true},
		{"one of ours, left", content{what: "xfs", ours: true}, ours, true, true, nil, false},
		{"one of ours that cannot be read", content{what: "xfs", ours: true}, ours, true, true, unix.EIO, true},
	} {
		if got := c.content.mayBeLeft(c.sb); got != c.mayBeLeft {
			t.Errorf("%s: may be left: %v", c.why, got)
		}
		err := c.content.refused("/dev/x", c.left, c.doubt)
		if (err != nil) != c.refused || err != nil && !errors.Is(err, fault.ErrUnsuitable) {
			t.Errorf("%s: %v", c.why, err)
		}
		if c.doubt != nil && !strings.Contains(err.Error(), c.doubt.Error()) {
			t.Errorf("%s: %v does not tell of the doubt", c.why, err)
		}
	}
}
