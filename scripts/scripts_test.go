package scripts

import (
	"encoding/json"
	"testing"

	"reflinksr/scripts/scratch"
)

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "4096": 4096, "64KiB": 64 << 10, "16MiB": 16 << 20, "3TiB": 3 << 40} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "MiB", "1.5GiB", "10kb"} {
		if n, err := ParseBytes(bad); err == nil {
			t.Errorf("%q is %d", bad, n)
		}
	}
}

func TestField(t *testing.T) {
	var s script
	v, err := decode([]byte(`{"key":"k","uri":["u","v"],"implementations":[["XenDisk",{"params":"p"}],["BlockDevice",{"path":"/dev/x"}]],"n":18446744073709551616}`))
	if err != nil {
		t.Fatal(err)
	}
	s.last = v
	for path, want := range map[string]string{
		".key": "k", ".uri[1]": "v", ".uri[#]": "2", ".implementations[1][1].path": "/dev/x", ".implementations[0][0]": "XenDisk",
		".uri": `["u","v"]`, ".n": "18446744073709551616",
	} {
		if got, err := s.field(path); err != nil || encode(got) != want {
			t.Errorf("%s: %v, %v; want %s", path, got, err, want)
		}
	}
	for _, bad := range []string{".none", ".uri[2]", ".key.x", "key", ".uri[x]"} {
		if got, err := s.field(bad); err == nil {
			t.Errorf("%s is %v", bad, got)
		}
	}
}

func TestConditions(t *testing.T) {
	c := Config{FS: "xfs", Own: true, Volume: t.TempDir()}
	for word, want := range map[string]bool{"fs:xfs": true, "fs:btrfs": false, "own": true, "call:Volume.compare": false} {
		if got, err := c.condition(word); err != nil || got != want {
			t.Errorf("[%s] is %v, %v", word, got, err)
		}
	}
	if _, err := c.condition("rooot"); err == nil {
		t.Error("an unknown condition is no error")
	}
}

// Every verb's usage begins with its name, and names are not used twice.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range table {
		if seen[v.name] || v.run == nil || v.about == "" {
			t.Errorf("%s is there twice or does nothing", v.name)
		}
		seen[v.name] = true
		if err := usage(v.name); err == nil {
			t.Errorf("%s has no usage", v.name)
		}
	}
}

func TestUUIDs(t *testing.T) {
	a, b := newUUID(), newUUID()
	if a == b || len(a) != 36 || a[14] != '4' {
		t.Errorf("%s, %s", a, b)
	}
	if data, err := json.Marshal(a); err != nil || len(data) != 38 {
		t.Errorf("%s, %v", data, err)
	}
	if err := scratch.Available("zfs"); err == nil {
		t.Error("zfs can be made")
	}
}
