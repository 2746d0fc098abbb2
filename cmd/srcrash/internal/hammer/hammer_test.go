package hammer

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

func TestMain(m *testing.M) { os.Exit(rig.RunTests(m)) }

// A little of everything, with kills, on both filesystems.
func TestHammer(t *testing.T) {
	tests.Root(t, "mounting filesystems and attaching loop devices")
	for _, fs := range []string{"btrfs", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			if err := scratch.Available(fs); err != nil {
				tests.Skip(t, err)
			}
			var out bytes.Buffer
			if err := Hammer([]string{"-fs", fs, "-calls", "100", "-kills", "5"}, &out); err != nil {
				t.Errorf("%v\n%s", err, &out)
			}
		})
	}
}

// A history that is not right is told, whole or around the place.
func TestTell(t *testing.T) {
	key := "365c68ee-966a-4644-880d-1122a36ab9a1"
	h := []*Event{made(key)}
	for i := range int64(100) {
		h = append(h, at(10*i+2, 10*i+3, "Volume.set_name", key).text("b"))
	}
	h = append(h, at(2000, 2001, "Volume.stat", key).sees(a().unread()), at(2002, 2003, "SR.ls", "").lists(nil))
	all, _ := parts(h)
	for _, judge := range []judge{linearizable, invariant} {
		bad := judge(all)
		if len(bad) != 1 {
			t.Fatal(bad)
		}
		var out bytes.Buffer
		bad[0].tell(&out)
		for _, want := range []string{"Illegal", "365c68ee", "? ", `Volume.stat 365c68ee: ok: "a"`} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q is not told:\n%s", want, &out)
			}
		}
	}
}
