package scripts

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/scripts/sandbox"
)

// A fault that never came to pass proves nothing, and is said to.
func TestAllHit(t *testing.T) {
	for hits, want := range map[string]bool{
		"": false, "fsync 2\n": true, "fsync 1\nfsync 2\n": true, "fsync 1\n": false, "fsync 22\n": false, "write 2\n": false,
	} {
		path := filepath.Join(t.TempDir(), "hits")
		if err := os.WriteFile(path, []byte(hits), 0o600); err != nil {
			t.Fatal(err)
		}
		s := sandbox.Sandbox{Hits: path, Faults: []sandbox.Fault{{Call: "fsync", Errno: unix.EIO, Only: []int{2}}}}
		if err := allHit(s); (err == nil) != want {
			t.Errorf("%q: %v", hits, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%q is counted again", hits)
		}
	}
	if err := allHit(sandbox.Sandbox{Hits: "none", Faults: []sandbox.Fault{{Call: "fsync"}}}); err == nil {
		t.Error("no call at all is no fault")
	}
	if err := allHit(sandbox.Sandbox{}); err != nil {
		t.Error(err)
	}
}
