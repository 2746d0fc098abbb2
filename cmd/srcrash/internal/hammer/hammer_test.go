package hammer

import (
	"bytes"
	"os"
	"testing"

	"reflinksr/cmd/internal/plugin"
	"reflinksr/scripts/scratch"
)

func TestMain(m *testing.M) {
	if plugin.IsCall(os.Args[0]) {
		os.Exit(plugin.Main())
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	if status, again := scratch.Isolate(); again {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// A little of everything, with kills, on both filesystems.
func TestHammer(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting filesystems and attaching loop devices needs root")
	}
	for _, fs := range []string{"btrfs", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			if err := scratch.Available(fs); err != nil {
				t.Skip(err)
			}
			var out bytes.Buffer
			if err := Hammer([]string{"-fs", fs, "-calls", "100", "-kills", "5"}, &out); err != nil {
				t.Errorf("%v\n%s", err, &out)
			}
		})
	}
}
