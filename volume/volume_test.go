package volume

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/record"
	"reflinksr/sr"
)

const (
	aKey  = "365c68ee-966a-4644-880d-1122a36ab9a1"
	aUUID = "5b14e28b-d9d0-4ab6-9cbe-31d4a927eecd"
)

func TestURI(t *testing.T) {
	for _, path := range []string{"/srv/tank", "/a b/#?%[]", "/ü"} {
		s := &sr.SR{Path: path, Meta: &layout.Meta{UUID: aUUID}}
		uri := URI(s, aKey)
		handle, uuid, key, err := ParseURI(uri)
		if err != nil || handle != layout.Handle(path, aUUID) || uuid != aUUID || key != aKey {
			t.Errorf("%q became %q, which is %q, %q, %q, %v", path, uri, handle, uuid, key, err)
		}
		if !strings.HasPrefix(uri, "loop+blkback:///") {
			t.Errorf("%q has another scheme", uri)
		}
	}
	for _, bad := range []string{
		"", "loop+blkback:///etc/passwd", "loop+blkback:///srv/" + aKey, "file:///srv/" + aKey + "?sr=" + aUUID,
		"loop+blkback://host/srv/" + aKey + "?sr=" + aUUID, "loop+blkback:///srv/" + aKey + ".inf?sr=" + aUUID,
		"loop+blkback:///srv/" + aKey + "?sr=../x", "loop+blkback:///srv/.reflinksr/staging/" + aKey + "?sr=" + aUUID,
	} {
		if h, _, k, err := ParseURI(bad); !errors.Is(err, fault.ErrVolumeNotFound) {
			t.Errorf("%q is taken for %q %q, %v", bad, h, k, err)
		}
	}
}

// What is accepted names one volume in one way: it says the same again, with nothing
// in it that was not looked at.
func FuzzParseURI(f *testing.F) {
	f.Add("loop+blkback:///srv/" + aKey + "?sr=" + aUUID)
	f.Add("loop+blkback://user@/srv/" + aKey + "?sr=" + aUUID + "#fragment")
	f.Add("loop+blkback:///srv/../a%2fb//" + aKey + "?sr=" + aUUID)
	f.Fuzz(func(t *testing.T, uri string) {
		handle, uuid, key, err := ParseURI(uri)
		if err != nil {
			if !errors.Is(err, fault.ErrVolumeNotFound) {
				t.Errorf("%q: %v", uri, err)
			}
			return
		}
		dir, named, err := layout.ParseHandle(handle)
		if err != nil || named != uuid {
			t.Fatalf("%q: handle %q of %q, %v", uri, handle, named, err)
		}
		h, u, k, err := ParseURI(URIAt(dir, uuid, key))
		if err != nil || h != handle || u != uuid || k != key {
			t.Errorf("%q is %q, %q, %q, which is said to be %q, %q, %q, %v", uri, handle, uuid, key, h, u, k, err)
		}
		// RFC 3986: a scheme is the same in any case.
		if !strings.HasPrefix(strings.ToLower(uri), "loop+blkback:") || !strings.HasSuffix(uri, "?sr="+uuid) || !strings.Contains(uri, string(key[8:])) && !strings.Contains(uri, "%") {
			t.Errorf("%q is accepted", uri)
		}
	})
}

func TestSizes(t *testing.T) {
	for size, want := range map[int64]int64{1: 4096, 512: 4096, 4096: 4096, 4097: 8192, 1_000_001: 1_003_520, MaxSize: MaxSize} {
		if got := RoundUp(size); got != want {
			t.Errorf("%d is rounded up to %d, want %d", size, got, want)
		}
		if got := RoundUpNew(size); got < size || got-size >= NewSizeUnit || got%NewSizeUnit != 0 || got > MaxSize {
			t.Errorf("a disk of %d gets %d", size, got)
		}
		if err := checkSize(size); err != nil {
			t.Error(err)
		}
	}
	for _, size := range []int64{0, -1, MaxSize + 1, 1<<63 - 1, -1 << 63} {
		if err := checkSize(size); !errors.Is(err, fault.ErrSize) || !strings.Contains(err.Error(), "the size is") {
			t.Errorf("%d: %v", size, err)
		}
	}
}

// A record of the simple file SR has three members; everything else has a default.
func TestForeignRecord(t *testing.T) {
	r, err := parseRecord([]byte(`{"name": "My Disk", "description": "", "size": 1048576, "colour": "blue"}`))
	if err != nil || r.Name != "My Disk" || !r.ReadWrite || r.Sharable || r.SectorSize != 512 || r.Format != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	data, err := r.encode()
	if err != nil || !strings.Contains(string(data), `"colour":"blue"`) || !strings.Contains(string(data), `"format":1`) {
		t.Errorf("%s, %v", data, err)
	}
	// The size is advisory: however it is written, it is no damage.
	if r, err := parseRecord([]byte(`{"name":"x","size":"1048576"}`)); err != nil || r.Name != "x" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{"", "{", "[]", "null", `{"name":7}`, `{"sector_size":7}`, `{"keys":[]}`} {
		if _, err := parseRecord([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a record", bad)
		}
	}
}

// Whatever a record is accepted as, a change of it keeps everything else, the members
// that this version does not know included, and takes effect.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"name":"n","description":"","size":4096}`))
	f.Add([]byte(`{"format":1,"keys":{"a":"b"},"origin":{"kind":"clone","of":"` + aKey + `","by":"x"},"vendor":[1,2.50]}`))
	f.Add([]byte(`{"name":"n","NAME":"o","\u212aeys":{"a":"b"},"de\u017fcription":"d","size":"1048576","cbt":true}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data)
		if looked, e := peekRecord(data); (e == nil) != (err == nil) {
			t.Fatalf("who only looks at %s finds %v, who changes it %v", data, e, err)
		} else if err == nil {
			same := *r
			same.unknown = nil
			if !reflect.DeepEqual(looked, same) {
				t.Errorf("who only looks at %s finds %+v, who changes it %+v", data, looked, same)
			}
		}
		if err != nil {
			return
		}
		if r.SectorSize != 512 && r.SectorSize != 4096 {
			t.Errorf("sector size %d", r.SectorSize)
		}
		before := *r
		r.Name, r.Description, r.Keys = "another", "one", map[string]string{"k": "v"}
		out, err := r.encode()
		if err != nil {
			return // longer than a record may be
		}
		if len(out) > record.Limit {
			t.Errorf("%d bytes", len(out))
		}
		again, err := parseRecord(out)
		if err != nil {
			t.Fatalf("%s became %s, %v", data, out, err)
		}
		if again.Name != "another" || again.Description != "one" || len(again.Keys) != 1 || again.Keys["k"] != "v" {
			t.Errorf("a change of %s had no effect: %s", data, out)
		}
		if again.Format != layout.Format || again.Size != before.Size || again.ReadWrite != before.ReadWrite || again.Sharable != before.Sharable || again.CBT != before.CBT ||
			again.SectorSize != before.SectorSize || !again.Created.Equal(before.Created) || (again.Origin == nil) != (before.Origin == nil) ||
			again.Origin != nil && (again.Origin.Kind != before.Origin.Kind || again.Origin.Of != before.Origin.Of || !again.Origin.At.Equal(before.Origin.At)) {
			t.Errorf("a change of the name changed more than that: %s became %s", data, out)
		}
		if lost := missingMember(data, out); lost != "" {
			t.Errorf("%s became %s: %s was lost", data, out, lost)
		}
	})
}

// missingMember finds a member of an object, or of an object in it that is no map,
// that is not in the other.
func missingMember(was, is []byte) string {
	var before, after map[string]json.RawMessage
	if json.Unmarshal(was, &before) != nil || json.Unmarshal(is, &after) != nil {
		return ""
	}
	for name, value := range before {
		now, there := after[name]
		if !there {
			return name
		}
		if name != "keys" {
			if lost := missingMember(value, now); lost != "" {
				return name + "." + lost
			}
		}
	}
	return ""
}

// Lists are never null on the wire, and variants and options are as the interface says.
func TestVolumeOnTheWire(t *testing.T) {
	data, err := json.Marshal(Volume{Key: aKey, UUID: aKey, URI: []string{"x"}, Keys: map[string]string{}})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"key", "name", "description", "read_write", "sharable", "virtual_size", "physical_utilisation", "uri", "keys"} {
		if v, ok := fields[name]; !ok || string(v) == "null" {
			t.Errorf("required field %s is %s in %s", name, v, data)
		}
	}
}

// A disk grows to what is asked for, rounded up, and keeps its length where it was made for as much.
func TestGrown(t *testing.T) {
	const unit = NewSizeUnit
	for _, c := range []struct{ now, size, want int64 }{
		{2 * unit, 2 * unit, 2 * unit}, {2 * unit, 2*unit - 1, 2 * unit}, {2 * unit, unit + 1, 2 * unit},
		{2 * unit, unit, 0}, {2 * unit, 1, 0}, {2 * unit, 2*unit + 1, 3 * unit}, {unit, 1, unit},
		{3 << 20, 3 << 20, 3 << 20}, {3 << 20, 3<<20 - 1, 3 << 20}, {3 << 20, 3<<20 - 4096, 0}, {3 << 20, 1, 0}, {3 << 20, 3<<20 + 1, 4 << 20},
		{1000, 1000, 4096}, {1000, 1, 4096}, {1000, 4096, 4096}, {1000, 4097, unit}, {1_000_001, 999_424, 0}, {1_000_001, 1_000_002, 1_003_520},
		{0, 1, unit}, {unit, MaxSize, MaxSize}, {unit, MaxSize - 1, MaxSize}, {MaxSize - 4096, MaxSize, MaxSize}, {MaxSize, MaxSize - unit, 0},
	} {
		if got, ok := grown(c.now, c.size); got != c.want || ok != (c.want > 0) {
			t.Errorf("of %d bytes for %d: %d, %v, want %d", c.now, c.size, got, ok, c.want)
		}
	}
}
