package volume

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/plainsr"
	"reflinksr/sr"
)

func plain(t *testing.T) (handle, path string) {
	t.Helper()
	handle, path, err := plainsr.Make(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return handle, path
}

func create(t *testing.T, handle string, size int64) Volume {
	t.Helper()
	v, err := Create(handle, "disk", "of a test", size, false)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func openSR(t *testing.T, handle string, mode dirfs.LockMode) *sr.SR {
	t.Helper()
	s, err := sr.Open(handle, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// The files of an SR, below its directory, but those of the control directory that are always there.
func files(t *testing.T, path string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(p, "lock") && d.Name() != "sr.json" && d.Name() != "sequence" {
			rel, _ := filepath.Rel(path, p)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// A volume from its creation to its end.
func TestLifeOfAVolume(t *testing.T) {
	handle, path := plain(t)
	v := create(t, handle, NewSizeUnit+1)
	if v.VirtualSize != 2*NewSizeUnit || v.Name != "disk" || !v.ReadWrite || v.PhysicalUtilisation > SizeUnit {
		t.Errorf("made: %+v", v)
	}
	key := v.Key
	for _, err := range []error{
		SetName(handle, key, "other"), SetDescription(handle, key, "Ω"), Set(handle, key, "k", "1"), Set(handle, key, "l", "2"),
		Unset(handle, key, "k"), Unset(handle, key, "never was"), Resize(handle, key, 3*NewSizeUnit), Resize(handle, key, 3*NewSizeUnit-5),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	now, err := Stat(handle, key)
	if err != nil || now.Name != "other" || now.Description != "Ω" || len(now.Keys) != 1 || now.Keys["l"] != "2" || now.VirtualSize != 3*NewSizeUnit || now.UUID != v.UUID {
		t.Errorf("changed: %+v, %v", now, err)
	}
	if st, err := os.Stat(filepath.Join(path, string(key))); err != nil || st.Size() != 3*NewSizeUnit || st.Mode().Perm() != 0o600 {
		t.Errorf("data: %+v, %v", st, err)
	}
	all, err := List(handle)
	if err != nil || len(all) != 1 || all[0].Key != v.Key || all[0].VirtualSize != 3*NewSizeUnit {
		t.Errorf("listed: %+v, %v", all, err)
	}
	s := openSR(t, handle, dirfs.Shared)
	if err := DestroyIn(s, v.Key); err != nil {
		t.Fatal(err)
	}
	if err := DestroyIn(s, v.Key); err != nil {
		t.Errorf("again: %v", err)
	}
	if left := files(t, path); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if _, err := Stat(handle, key); !errors.Is(err, fault.ErrVolumeNotFound) {
		t.Errorf("destroyed, and there: %v", err)
	}
}

// What cannot be done is refused by its class, and leaves all as it was.
func TestRefusals(t *testing.T) {
	handle, path := plain(t)
	v := create(t, handle, 2*NewSizeUnit)
	key, before := v.Key, files(t, path)
	record, err := os.ReadFile(filepath.Join(path, string(key)+".inf"))
	if err != nil {
		t.Fatal(err)
	}
	none := sr.Key("00000000-0000-4000-8000-000000000000")
	long := strings.Repeat("x", 1<<20)
	for what, c := range map[string]struct{ err, want error }{
		"smaller":          {Resize(handle, key, NewSizeUnit), fault.ErrSize},
		"negative":         {Resize(handle, key, -1), fault.ErrSize},
		"endless":          {Resize(handle, key, 1<<62+1), fault.ErrSize},
		"no volume":        {SetName(handle, none, "x"), fault.ErrVolumeNotFound},
		"no SR":            {SetName(handle+"x", key, "x"), fault.ErrNotAttached},
		"name of no text":  {SetName(handle, key, "\xff"), fault.ErrInvalid},
		"name without end": {SetName(handle, key, long), fault.ErrInvalid},
		"key without end":  {Set(handle, key, long, "x"), fault.ErrInvalid},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v", what, c.err)
		}
	}
	if _, err := Create(handle, "x", "", -1, false); !errors.Is(err, fault.ErrSize) {
		t.Error(err)
	}
	if _, err := Create(handle, "x", "\xff", 1, false); !errors.Is(err, fault.ErrInvalid) {
		t.Error(err)
	}
	if now, err := os.ReadFile(filepath.Join(path, string(key)+".inf")); err != nil || string(now) != string(record) {
		t.Errorf("the record became %s, %v", now, err)
	}
	if after := files(t, path); !slices.Equal(before, after) {
		t.Errorf("files were %q, are %q", before, after)
	}
}

// A record that cannot be changed here is left alone: of a newer version, of what has no data any more, a snapshot's.
func TestRecordsThatStay(t *testing.T) {
	handle, path := plain(t)
	v := create(t, handle, NewSizeUnit)
	inf := filepath.Join(path, string(v.Key)+".inf")
	for text, want := range map[string]error{
		`{"format":99,"name":"n","size":2097152}`:                        fault.ErrNewer,
		`{"format":1,"name":"n","size":2097152,"read_write":false}`:      fault.ErrInvalid,
		`{"format":1,"name":"n","size":2097152`:                          fault.ErrDamaged,
		`{"format":1,"name":"n","size":2097152,"sector_size":520}`:       fault.ErrDamaged,
		`{"format":1,"name":"n","size":"many","x":[1],"keys":{"a":"b"}}`: nil, // the size is only told
	} {
		if err := os.WriteFile(inf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Resize(handle, v.Key, 2*NewSizeUnit); !errors.Is(err, want) {
			t.Errorf("%s: %v", text, err)
		}
		now, err := os.ReadFile(inf)
		if err != nil || want != nil && string(now) != text || want == nil && !strings.Contains(string(now), `"x"`) {
			t.Errorf("%s became %s, %v", text, now, err)
		}
		if err := os.Truncate(filepath.Join(path, string(v.Key)), NewSizeUnit); err != nil {
			t.Fatal(err)
		}
	}
}

// A list has what can be described, and what is damaged as well: it is not taken for gone.
func TestListOfDamage(t *testing.T) {
	handle, path := plain(t)
	good, noData, noRecord, rubbish := create(t, handle, NewSizeUnit), create(t, handle, NewSizeUnit), create(t, handle, NewSizeUnit), create(t, handle, NewSizeUnit)
	if err := errors.Join(
		os.Remove(filepath.Join(path, string(noData.Key))),
		os.Remove(filepath.Join(path, string(noRecord.Key)+".inf")),
		os.WriteFile(filepath.Join(path, string(rubbish.Key)+".inf"), []byte("rubbish"), 0o600),
		os.WriteFile(filepath.Join(path, "README"), []byte("somebody's"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	all, err := List(handle)
	if err != nil {
		t.Fatal(err)
	}
	there := map[sr.Key]bool{}
	for _, v := range all {
		there[v.Key] = true
	}
	if !there[good.Key] || !there[noData.Key] || there[noRecord.Key] || !there[rubbish.Key] || len(all) != 3 {
		t.Errorf("%+v", all)
	}
	if _, err := Stat(handle, noData.Key); !errors.Is(err, fault.ErrDamaged) {
		t.Errorf("without data: %v", err)
	}
	if _, err := Stat(handle, rubbish.Key); !errors.Is(err, fault.ErrDamaged) {
		t.Errorf("without a record that can be read: %v", err)
	}
}

// A volume that somebody has is not destroyed, nor made longer from where its device is not.
func TestVolumeInUse(t *testing.T) {
	handle, path := plain(t)
	v := create(t, handle, NewSizeUnit)
	s := openSR(t, handle, dirfs.Shared)
	me, err := hostinfo.ThisHost()
	if err != nil {
		t.Fatal(err)
	}
	there := lease.Holder{Host: "4e1d8c5a-3f0b-4a93-8f0e-1a2b3c4d5e6f", Boot: "another", Domain: "5", Write: true}
	if err := lease.WriteFile(s, v.Key, []lease.Holder{there}); err != nil {
		t.Fatal(err)
	}
	if err := DestroyIn(s, v.Key); !errors.Is(err, fault.ErrInUse) || !strings.Contains(err.Error(), there.Host) {
		t.Errorf("destroyed while another host has it: %v", err)
	}
	if err := Resize(handle, v.Key, 2*NewSizeUnit); !errors.Is(err, fault.ErrElsewhere) {
		t.Errorf("resized while another host has it: %v", err)
	}
	if held, damaged, err := BreakLease(handle, v.Key); err != nil || damaged || len(held) != 1 || held[0].Host != there.Host {
		t.Errorf("broken: %+v, %v, %v", held, damaged, err)
	}
	if held, err := lease.Read(s, v.Key, me); err != nil || len(held.Holders) > 0 {
		t.Errorf("after that: %+v, %v", held, err)
	}
	if err := os.WriteFile(filepath.Join(path, ".reflinksr/leases", string(v.Key)), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := DestroyIn(s, v.Key); !errors.Is(err, fault.ErrDamaged) {
		t.Errorf("destroyed with a lease that cannot be read: %v", err)
	}
	if _, damaged, err := BreakLease(handle, v.Key); err != nil || !damaged {
		t.Errorf("a damaged one, broken: %v, %v", damaged, err)
	}
	if err := DestroyIn(s, v.Key); err != nil {
		t.Error(err)
	}
}

// What is destroyed with a disk is the clone that the toolstack made of it for one boot, and nothing that only is called so.
func TestCloneOnBootGoesAlong(t *testing.T) {
	handle, _ := plain(t)
	disk, clone, other := create(t, handle, NewSizeUnit), create(t, handle, NewSizeUnit), create(t, handle, NewSizeUnit)
	s := openSR(t, handle, dirfs.Shared)
	r, err := Load(s, clone.Key)
	if err != nil {
		t.Fatal(err)
	}
	r.Origin = &Origin{Kind: Clone, Of: disk.Key}
	if err := errors.Join(r.save(s, clone.Key), Set(handle, disk.Key, cloneOnBoot, string(clone.Key)), Set(handle, clone.Key, cloneOnBoot, string(other.Key))); err != nil {
		t.Fatal(err)
	}
	if err := DestroyIn(s, disk.Key); err != nil {
		t.Fatal(err)
	}
	keys, err := Keys(s)
	if err != nil || !slices.Equal(keys, []sr.Key{other.Key}) {
		t.Errorf("%q is left, %v; want %s", keys, err, other.Key)
	}
}

// What is older is told by numbers, which rise whatever the clock does.
func TestSequenceOfVolumes(t *testing.T) {
	handle, _ := plain(t)
	s := openSR(t, handle, dirfs.Unlocked)
	var last *Record
	for range 5 {
		r, err := Load(s, create(t, handle, 1).Key)
		if err != nil {
			t.Fatal(err)
		}
		if last != nil && (last.Older(r) >= 0 || r.Older(last) <= 0 || r.Older(r) != 0) {
			t.Errorf("%d after %d", r.Sequence, last.Sequence)
		}
		last = r
	}
	adopted := &Record{}
	if adopted.Older(last) >= 0 {
		t.Error("an adopted volume is younger than one of ours")
	}
}

// An SR goes with its volumes, and with nothing that is somebody's; not while one is in use.
func TestDestroySR(t *testing.T) {
	handle, path := plain(t)
	v := create(t, handle, NewSizeUnit)
	foreign := filepath.Join(path, "README")
	if err := os.WriteFile(foreign, []byte("somebody's"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openSR(t, handle, dirfs.Unlocked)
	there := lease.Holder{Host: "4e1d8c5a-3f0b-4a93-8f0e-1a2b3c4d5e6f", Boot: "another", Domain: "5"}
	if err := lease.WriteFile(s, v.Key, []lease.Holder{there}); err != nil {
		t.Fatal(err)
	}
	if err := DestroySR(handle); !errors.Is(err, fault.ErrSRInUse) {
		t.Errorf("destroyed while another host has a volume: %v", err)
	}
	if _, err := Stat(handle, v.Key); err != nil {
		t.Errorf("after a refusal: %v", err)
	}
	if err := errors.Join(lease.WriteFile(s, v.Key, nil), DestroySR(handle)); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(path)
	if err != nil || len(left) != 1 || left[0].Name() != "README" {
		t.Errorf("left: %v, %v", left, err)
	}
}
