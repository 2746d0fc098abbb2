package diskstat

import (
	"errors"
	"os"
	"reflect"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	want := Counters{Reads: 1, ReadBytes: 3 * 512, ReadTime: 4 * time.Millisecond, Writes: 5, WriteBytes: 7 * 512, WriteTime: 8 * time.Millisecond, InFlight: 9}
	for _, text := range []string{
		"       1        2        3        4        5        6        7        8        9       10       11\n", // Linux 4.17
		"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n",                                                          // 5.5
	} {
		if c, err := parse(text); err != nil || c != want {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	}
	for _, text := range []string{"", "1 2 3 4 5 6 7 8", "1 2 3 4 5 6 7 8 x", "1 2 3 -4 5 6 7 8 9"} {
		if c, err := parse(text); err == nil {
			t.Errorf("%q: %+v", text, c)
		}
	}
}

func TestNone(t *testing.T) {
	if c, err := Of("loop-none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%+v, %v", c, err)
	}
	if name, err := NameOf(7, 1<<19); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%q, %v", name, err)
	}
	for _, path := range []string{"/dev/null", "/", "/none"} {
		if name, err := NameAt(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %q, %v", path, name, err)
		}
	}
}

// What is told is of the time between two readings: nothing of a disk that is new, or whose counters began anew.
func TestMeter(t *testing.T) {
	var m Meter[string]
	at := time.Unix(1000, 0)
	read := func(seconds int, now map[string]Counters) map[string]Activity {
		at = at.Add(time.Duration(seconds) * time.Second)
		return m.Read(at, now)
	}
	is := func(what string, got, want Activity) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %+v\nwant %+v", what, got, want)
		}
	}
	first := Counters{Reads: 100, ReadBytes: 1 << 20, ReadTime: time.Second, InFlight: 2}
	is("the first reading", read(0, map[string]Counters{"a": first})["a"], Activity{Total: first, Lately: Counters{InFlight: 2}})
	second := Counters{Reads: 104, ReadBytes: 2 << 20, ReadTime: 3 * time.Second, Writes: 4, WriteBytes: 512, WriteTime: 6 * time.Second, InFlight: 1}
	all := read(4, map[string]Counters{"a": second, "b": first})
	is("the second", all["a"], Activity{
		Total:   second,
		Lately:  Counters{Reads: 4, ReadBytes: 1 << 20, ReadTime: 2 * time.Second, Writes: 4, WriteBytes: 512, WriteTime: 6 * time.Second, InFlight: 1},
		Latency: time.Second, Queue: 2,
	})
	is("a new disk", all["b"], Activity{Total: first, Lately: Counters{InFlight: 2}})
	is("it does nothing", read(4, map[string]Counters{"a": second})["a"], Activity{Total: second, Lately: Counters{InFlight: 1}})
	is("its counters began anew", read(4, map[string]Counters{"a": {Reads: 103, Writes: 9}})["a"], Activity{Total: Counters{Reads: 103, Writes: 9}})
	is("gone and come again", read(4, map[string]Counters{})["a"], Activity{})
	is("gone and come again", read(4, map[string]Counters{"a": second})["a"], Activity{Total: second, Lately: Counters{InFlight: 1}})
	if c := second.since(first); c.ReadLatency() != 500*time.Millisecond || c.WriteLatency() != 1500*time.Millisecond {
		t.Errorf("%v, %v", c.ReadLatency(), c.WriteLatency())
	}
	if c := (Counters{}); c.ReadLatency() != 0 || c.WriteLatency() != 0 {
		t.Error("of no request")
	}
}

// A group's totals go on growing when a disk has gone, and its latency is that of its slowest disk.
func TestGroups(t *testing.T) {
	totals := Groups{}
	of := func(disk string) string { return disk[:1] }
	busy := func(n uint64, latency time.Duration, queue float64) Activity {
		return Activity{Total: Counters{Writes: 1000}, Lately: Counters{Writes: n, WriteBytes: n * 512, InFlight: n}, Latency: latency, Queue: queue}
	}
	got := Add(totals, map[string]Activity{"a1": busy(1, 5, 0.5), "a2": busy(2, 4, 3), "b1": busy(4, 1, 1)}, of)
	want := map[string]Activity{
		"a": {Total: Counters{Writes: 3, WriteBytes: 3 * 512, InFlight: 3}, Lately: Counters{Writes: 3, WriteBytes: 3 * 512, InFlight: 3}, Latency: 5, Queue: 3},
		"b": {Total: Counters{Writes: 4, WriteBytes: 4 * 512, InFlight: 4}, Lately: Counters{Writes: 4, WriteBytes: 4 * 512, InFlight: 4}, Latency: 1, Queue: 1},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	got = Add(totals, map[string]Activity{"a1": busy(1, 1, 1)}, of)
	want = map[string]Activity{"a": {Total: Counters{Writes: 4, WriteBytes: 4 * 512, InFlight: 1}, Lately: Counters{Writes: 1, WriteBytes: 512, InFlight: 1}, Latency: 1, Queue: 1}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}
