package opennebula

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// What was sent is read, part by part, however it comes; and wherever the connection breaks off, that is told from an end.
func TestParts(t *testing.T) {
	sent := [][]byte{bytes.Repeat([]byte("one"), piece), {}, []byte("three")}
	var wire bytes.Buffer
	p := NewParts(&wire)
	for _, part := range sent {
		if err := p.Send(bytes.NewReader(part)); err != nil {
			t.Fatal(err)
		}
		if err := p.End(); err != nil {
			t.Fatal(err)
		}
	}
	all := wire.Bytes()
	from := iotest.HalfReader(bytes.NewReader(all))
	for i, part := range sent {
		if got, err := io.ReadAll(Part(from)); err != nil || !bytes.Equal(got, part) {
			t.Errorf("part %d: %d bytes, %v", i, len(got), err)
		}
	}
	for _, cut := range []int{0, 3, 4, 5, 4 + piece, len(all) - 5, len(all) - 1} {
		from := bytes.NewReader(all[:cut])
		var err error
		for range sent {
			if _, err = io.Copy(io.Discard, Part(from)); err != nil {
				break
			}
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d bytes: %v", cut, err)
		}
	}
	if err := p.Send(iotest.ErrReader(errors.New("no more"))); err == nil {
		t.Error("what cannot be read is sent")
	}
}

func FuzzPart(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01a\x00\x00\x00\x00"))
	f.Add([]byte("\xff\xff\xff\xffa"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		got, err := io.ReadAll(Part(bytes.NewReader(wire)))
		if len(got) > len(wire) || err == nil && !bytes.Contains(wire, []byte("\x00\x00\x00\x00")) {
			t.Errorf("%d bytes of %d, %v", len(got), len(wire), err)
		}
	})
}

// A dump of anything is read or refused, and what is told of it is one line.
func FuzzDump(f *testing.F) {
	f.Add("<DS_DRIVER_ACTION_DATA><IMAGE><SIZE>1</SIZE></IMAGE><DATASTORE><ID>1</ID></DATASTORE></DS_DRIVER_ACTION_DATA>")
	f.Add("<DS_DRIVER_ACTION_DATA><IMAGE><TARGET_SNAPSHOT>-2</TARGET_SNAPSHOT></IMAGE></DS_DRIVER_ACTION_DATA>")
	f.Fuzz(func(t *testing.T, text string) {
		c := Call{Driver: "datastore", Name: "reflink", Action: "cp", Args: []string{"1"}, Stdin: strings.NewReader(base64.StdEncoding.EncodeToString([]byte(text)))}
		d, _, err := c.Dump()
		if err == nil {
			if n, e := d.Snapshot(); e == nil && n < 0 {
				t.Errorf("snapshot %d", n)
			}
			_, err = d.Base()
		}
		if err != nil {
			var told strings.Builder
			if c.Tell(&told, err); strings.Count(told.String(), "\n") != 1 {
				t.Errorf("%q", told.String())
			}
		}
	})
}
