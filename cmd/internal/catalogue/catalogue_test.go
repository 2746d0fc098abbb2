package catalogue

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/repository"
)

const (
	keyA = "11111111-2222-4333-8444-555555555555"
	keyB = "66666666-7777-4888-8999-aaaaaaaaaaaa"
)

var moment = time.Date(2026, 12, 1, 3, 0, 0, 0, time.UTC)

func two() *Catalogue {
	return &Catalogue{ID: keyA, Disk: keyB, Name: "web\x1b[31m", SR: keyA, SectorSize: 512, Points: []Point{
		{Key: keyA, At: moment, Size: 8192, Bytes: 144, File: FileName(moment, "", keyA)},
		{Key: keyB, Since: keyA, At: moment.Add(time.Hour), Size: 8192, Bytes: 144, File: FileName(moment.Add(time.Hour), keyA, keyB)},
	}}
}

func written(t testing.TB, c *Catalogue) string {
	t.Helper()
	var b bytes.Buffer
	if err := c.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRoundTrip(t *testing.T) {
	text := written(t, two())
	c, err := Read(strings.NewReader(text))
	if err != nil || written(t, c) != text {
		t.Errorf("%v, %+v of %s", err, c, text)
	}
	if want := `"file": "20261201T040000Z-66666666.delta"`; !strings.Contains(text, want) {
		t.Errorf("%s has no %s", text, want)
	}
}

// Whatever is no catalogue of ours is refused, with the reason.
func TestRefused(t *testing.T) {
	text := written(t, two())
	for _, c := range []struct{ old, new, want string }{
		{`"format": 1`, `"format": 2`, "another version: 2"},
		{`"format": 1`, `"format": "1"`, "cannot unmarshal"},
		{`"format": 1`, `"format": 1, "more": 1`, "unknown field"},
		{`"id": "1`, `"id": "`, "no such volume"},
		{`"disk": "6`, `"disk": "../`, "no such volume"},
		{`"sector_size": 512`, `"sector_size": 513`, "sectors of 513 bytes cannot be"},
		{`"key": "6`, `"key": "7`, "its file is called"},
		{`"since": "1`, `"since": "`, "no such volume"},
		{`"bytes": 144`, `"bytes": -1`, "of -1 bytes"},
		{`"size": 8192`, `"size": 2000000000000000000`, "of a disk of 2000000000000000000"},
		{`20261201T030000Z-11111111.full`, `../../etc/passwd`, "its file is called"},
		{`20261201T030000Z-11111111.full`, `20261301T030000Z-11111111.full`, "its file is called"},
		{`"removed": []`, `"removed": ["../x"]`, "is no stream's name"},
		{"\n}\n", "", "unexpected end"},
		{"\n}\n", "\n}\n{}", "after top-level value"},
	} {
		got := strings.Replace(text, c.old, c.new, 1)
		if got == text {
			t.Fatalf("it has no %q", c.old)
		}
		if _, err := Read(strings.NewReader(got)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s instead of %s: %v, want %s", c.new, c.old, err, c.want)
		}
	}
	twice := two()
	twice.Points = append(twice.Points, twice.Points[0])
	many := two()
	for i := range most {
		key := repository.Key(fmt.Sprintf("11111111-2222-4333-8444-%012d", i))
		many.Points = append(many.Points, Point{Key: key, At: moment, File: FileName(moment, "", key)})
	}
	for _, c := range []*Catalogue{twice, many, {}} {
		if err := c.Write(new(bytes.Buffer)); err == nil {
			t.Errorf("%d points were written", len(c.Points))
		}
	}
	if _, err := Read(strings.NewReader(strings.Repeat(" ", Limit+1))); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Error(err)
	}
	if _, err := Read(strings.NewReader(`{"format": 7, "anything": {}}`)); !errors.Is(err, ErrVersion) {
		t.Error(err)
	}
}

// As many points as there can be are read again.
func TestMost(t *testing.T) {
	c := two()
	for i := range most - 2 {
		key := repository.Key(fmt.Sprintf("11111111-2222-4333-8444-%012d", i))
		c.Points = append(c.Points, Point{Key: key, Since: keyA, At: moment, Size: delta.MaxSize, Bytes: 1 << 60, File: FileName(moment, keyA, key)})
	}
	if _, err := Read(strings.NewReader(written(t, c))); err != nil {
		t.Error(err)
	}
}

func TestChain(t *testing.T) {
	c := two()
	if chain, whole := c.Chain(c.Find(keyB)); !whole || len(chain) != 2 || chain[0].Key != keyA {
		t.Errorf("%v, %v", chain, whole)
	}
	if chain, whole := c.Chain(c.Find("none")); whole || len(chain) != 0 {
		t.Errorf("%v, %v", chain, whole)
	}
	c.Points[0].Since = keyB // a ring
	if _, whole := c.Chain(c.Find(keyB)); whole {
		t.Error("a ring is a chain")
	}
	c.Points = c.Points[1:]
	if chain, whole := c.Chain(c.Find(keyB)); whole || len(chain) != 1 {
		t.Errorf("%v, %v", chain, whole)
	}
}

// A name and a header make the point that they are of.
func TestPointOf(t *testing.T) {
	for _, want := range two().Points {
		h := delta.Header{From: want.Since, To: want.Key, ToSize: want.Size}
		if got, err := PointOf(want.File, want.Bytes, h); err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
		for _, name := range []string{"", "x", want.File + ".partial", strings.Replace(want.File, "2026", "2025-", 1), strings.Replace(want.File, "-", "-0", 1), "20261201T030000Z-00000000.full", "20269901T030000Z-11111111.full"} {
			if p, err := PointOf(name, want.Bytes, h); err == nil {
				t.Errorf("%s is the stream of %+v", name, p)
			}
		}
	}
}

// What is read is written again, and read as the same.
func FuzzRead(f *testing.F) {
	f.Add([]byte(written(f, two())))
	f.Add([]byte(`{"format":1,"id":"` + keyA + `","disk":"` + keyB + `","name":"","sr":"","sector_size":0,"points":[]}`))
	f.Add([]byte(`{"format":1,"Points":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		for i, p := range c.Points {
			if i > 100 {
				break
			}
			if strings.ContainsAny(p.File, "/\x00") {
				t.Fatalf("the file %q", p.File)
			}
			c.Chain(i)
		}
		text := written(t, c)
		again, err := Read(strings.NewReader(text))
		if err != nil || written(t, again) != text {
			t.Fatalf("%v: %s", err, text)
		}
	})
}
