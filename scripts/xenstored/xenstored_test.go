package xenstored

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"reflinksr/scripts/tests"
)

// Xen's own clients write, read and list here as they do with Xen's daemon, also a list that is longer than a message.
func TestXenClients(t *testing.T) {
	if _, err := exec.LookPath("xenstore-list"); err != nil {
		tests.Skip(t, "Xen's clients are not installed: xenstore-utils")
	}
	s, socket, err := Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.End()
	xen := func(args ...string) (string, error) {
		c := exec.Command(args[0], args[1:]...)
		c.Env = append(os.Environ(), "XENSTORED_PATH="+socket)
		out, err := c.CombinedOutput()
		return string(out), err
	}
	if out, err := xen("xenstore-write", "/a/b", "value", "/a/c", ""); err != nil {
		t.Fatal(out, err)
	}
	if out, err := xen("xenstore-read", "/a/b"); err != nil || out != "value\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := xen("xenstore-read", "/a/none"); err == nil {
		t.Errorf("%q", out)
	}
	values, want := map[string]string{}, []string{}
	for i := range 1000 {
		name := fmt.Sprintf("%09d", i)
		values["/many/"+name], want = "x", append(want, name)
	}
	if err := Write(socket, values); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]string{"/a": {"b", "c"}, "/many": want} {
		out, err := xen("xenstore-list", path)
		if got := slices.Sorted(strings.FieldsSeq(out)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %.200q, %v", path, out, err)
		}
	}
	if out, err := xen("xenstore-rm", "/a"); err != nil {
		t.Error(out, err)
	}
	if out, err := xen("xenstore-list", "/a"); err == nil {
		t.Errorf("%q", out)
	}
}
