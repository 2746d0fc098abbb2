package snapshot

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"reflinksr/datapath"
	"reflinksr/internal/fault"
)

// A copy that one domain has for itself is given to no other, whatever became of that domain: neither while it has it, nor afterwards.
func TestCopyForOneDomain(t *testing.T) {
	_, v := attachedDisk(t)
	uri := v.URI[0]
	if err := datapath.Detach(uri, "1"); err != nil {
		t.Fatal(err)
	}
	holds := func() []byte {
		t.Helper()
		paths, err := datapath.Attach(uri, "u0_backup")
		if err != nil {
			t.Fatal(err)
		}
		if err := datapath.Activate(uri, "u0_backup", true); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(paths.Device)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(datapath.Deactivate(uri, "u0_backup"), datapath.Detach(uri, "u0_backup")); err != nil {
			t.Fatal(err)
		}
		return data
	}
	want := holds()
	begin := func() {
		t.Helper()
		if err := datapath.OpenFor(uri, "one"); err != nil {
			t.Fatal(err)
		}
		paths, err := datapath.Attach(uri, "one")
		if err == nil {
			err = datapath.Activate(uri, "one", false)
		}
		if err == nil {
			err = os.WriteFile(paths.Device, []byte("written to the copy"), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	begin()
	if _, err := datapath.Attach(uri, "u0_backup"); !errors.Is(err, fault.ErrInUse) {
		t.Errorf("while it is used: %v", err)
	}
	if err := errors.Join(datapath.Deactivate(uri, "one"), datapath.Detach(uri, "one")); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(holds(), want) {
		t.Error("after it was used, the copy is given")
	}
	// Who was killed has opened it, and no more.
	if err := datapath.OpenFor(uri, "one"); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(holds(), want) {
		t.Error("after it was opened only, the copy is given")
	}
	begin() // again, whatever is left
	if err := errors.Join(datapath.Deactivate(uri, "one"), datapath.Detach(uri, "one")); err != nil {
		t.Fatal(err)
	}
	// One for everybody is, as before.
	if err := datapath.Open(uri, false); err != nil {
		t.Fatal(err)
	}
	paths, err := datapath.Attach(uri, "2")
	if err == nil {
		err = datapath.Activate(uri, "2", false)
	}
	if err == nil {
		err = os.WriteFile(paths.Device, []byte("written to the copy"), 0)
	}
	if err := errors.Join(err, datapath.Deactivate(uri, "2"), datapath.Detach(uri, "2")); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(holds(), want) {
		t.Error("the copy that is for everybody is not given")
	}
	if err := datapath.Close(uri); err != nil {
		t.Fatal(err)
	}
}
