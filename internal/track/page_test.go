package track

import (
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"
)

const headerPage = `	field: u64 timestamp;	offset:0;	size:8;	signed:0;
	field: local_t commit;	offset:8;	size:8;	signed:1;
	field: int overwrite;	offset:8;	size:1;	signed:1;
	field: char data;	offset:16;	size:4080;	signed:0;
`

// The event of Linux 4.19 and of 6.18, whose members lie elsewhere.
const (
	issue419 = `name: block_rq_issue
ID: 1103
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:dev_t dev;	offset:8;	size:4;	signed:0;
	field:sector_t sector;	offset:16;	size:8;	signed:0;
	field:unsigned int nr_sector;	offset:24;	size:4;	signed:0;
	field:unsigned int bytes;	offset:28;	size:4;	signed:0;
	field:char rwbs[8];	offset:32;	size:8;	signed:1;
	field:char comm[16];	offset:40;	size:16;	signed:1;
	field:__data_loc char[] cmd;	offset:56;	size:4;	signed:1;
`
	issue618 = `name: block_rq_issue
ID: 2104
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;

	field:dev_t dev;	offset:8;	size:4;	signed:0;
	field:sector_t sector;	offset:16;	size:8;	signed:0;
	field:unsigned int nr_sector;	offset:24;	size:4;	signed:0;
	field:unsigned short ioprio;	offset:32;	size:2;	signed:0;
	field:char rwbs[10];	offset:34;	size:10;	signed:0;
`
)

func TestFormats(t *testing.T) {
	for text, want := range map[string]request{
		issue419: {1103, field{16, 8}, field{24, 4}, field{32, 8}, 40},
		issue618: {2104, field{16, 8}, field{24, 4}, field{34, 10}, 44},
		strings.Replace(issue618, "rwbs[10];\toffset:34;\tsize:10", "rwbs[9];\toffset:34;\tsize:9", 1): {2104, field{16, 8}, field{24, 4}, field{34, 9}, 43}, // Linux 6.12
	} {
		if r, err := parseRequest(text); err != nil || r != want {
			t.Errorf("%+v, %v, want %+v", r, err, want)
		}
	}
	for _, text := range []string{"", "ID: x\n", "ID: 5\n\tfield:sector_t sector;\toffset:16;\tsize:4;\n", "ID: 5\n\tfield:int;\n", headerPage} {
		if r, err := parseRequest(text); err == nil {
			t.Errorf("%q is taken for %+v", text, r)
		}
	}
	p, err := parsePage(headerPage)
	if want := (page{field{0, 8}, field{8, 8}, field{16, 4080}, 4096}); err != nil || p != want {
		t.Errorf("%+v, %v", p, err)
	}
	for _, text := range []string{"", issue618, "\tfield: u64 timestamp;\toffset:0;\tsize:8;\n\tfield: local_t commit;\toffset:8;\tsize:8;\n\tfield: char data;\toffset:4;\tsize:4080;\n"} {
		if p, err := parsePage(text); err == nil {
			t.Errorf("%q is taken for %+v", text, p)
		}
	}
}

func TestIsRead(t *testing.T) {
	for op, want := range map[string]bool{"R": true, "RS": true, "RA": true, "FR": true, "W": false, "WS": false, "FWFS": false, "D": false, "DS": false, "NS": false, "N": false, "DE": false, "FF": false, "": false, "WSR": false} {
		b := make([]byte, 10)
		copy(b, op)
		if isRead(b) != want {
			t.Errorf("%q: %v", op, !want)
		}
	}
}

// writer makes pages as the kernel does.
type writer struct{ b []byte }

func newPage(time uint64) *writer {
	w := &writer{make([]byte, 16)}
	binary.NativeEndian.PutUint64(w.b, time)
	return w
}

func (w *writer) words(words ...uint32) *writer {
	for _, x := range words {
		w.b = binary.NativeEndian.AppendUint32(w.b, x)
	}
	return w
}

// request appends an event of Linux 6.18, with its length in the entry's first word or in the next.
func (w *writer) request(delta uint32, id uint16, sector uint64, count uint32, op string, long bool) *writer {
	e := make([]byte, 44)
	binary.NativeEndian.PutUint16(e, id)
	binary.NativeEndian.PutUint64(e[16:], sector)
	binary.NativeEndian.PutUint32(e[24:], count)
	copy(e[34:], op)
	if long {
		w.words(delta<<5, uint32(len(e)+4))
	} else {
		w.words(delta<<5 | uint32(len(e)/4))
	}
	w.b = append(w.b, e...)
	return w
}

func (w *writer) page(flags uint64) []byte {
	binary.NativeEndian.PutUint64(w.b[8:], uint64(len(w.b)-16)|flags)
	return append(w.b, make([]byte, 4096-len(w.b))...)
}

func testEvents() events {
	p, _ := parsePage(headerPage)
	r, _ := parseRequest(issue618)
	c := r
	c.id = 2107
	return events{page: p, issued: r, completed: c, mark: 5}
}

func TestPages(t *testing.T) {
	all := func(b []byte) (seen []Event, err error) {
		err = testEvents().each(b, func(e Event) { seen = append(seen, e) })
		return seen, err
	}
	b := newPage(1000).
		request(5, 2104, 80, 8, "WS", false).
		words(7<<5|entryLater, 2). // 7 ns and 2<<27 ns later
		request(1, 2107, 80, 8, "WS", true).
		request(1, 2104, 8, 8, "RA", false).         // a read
		request(1, 2104, 8, 0, "FF", false).         // a flush
		words(3<<5|entryPadding, 8, 0).              // a record that was taken back
		request(1, 77, 8, 8, "W", false).            // somebody else's
		words(100<<5|entryAbsolute, 9).              // the time is 9<<27 + 100
		request(2, 2107, 1<<40, 1<<20, "NS", false). // 512 MiB of zeros
		words(4<<5|1, 5).                            // a mark, of 4 bytes
		words(entryPadding, 0).                      // the rest is empty
		page(0)
	seen, err := all(b)
	want := []Event{{Issued, 1005, 80, 88}, {Completed, 1013 + 2<<27, 80, 88}, {Completed, 9<<27 + 102, 1 << 40, 1<<40 + 1<<20}, {Marked, 9<<27 + 106, 0, 0}}
	if err != nil || !reflect.DeepEqual(seen, want) {
		t.Errorf("%+v, %v\nwant %+v", seen, err, want)
	}
	// The upper bits of an absolute time are those of before, and it does not go back.
	b = newPage(3<<59+500).words(100<<5|entryAbsolute, 0).request(0, 2104, 0, 1, "W", false).page(0)
	if seen, err := all(b); err != nil || seen[0].Time != 4<<59+100 {
		t.Errorf("%+v, %v", seen, err)
	}
	if _, err := all(newPage(0).request(0, 2104, 0, 1, "W", false).page(commitMissed)); !errors.Is(err, ErrLost) {
		t.Errorf("lost events: %v", err)
	}
	for what, b := range map[string][]byte{
		"nothing":            {},
		"half a header":      make([]byte, 12),
		"more than there is": newPage(0).page(1 << 20),
		"half an entry":      newPage(0).words(28).page(0),
		"half a long entry":  newPage(0).words(0).page(0),
		"a short long entry": newPage(0).words(0, 2, 0).page(0),
		"an endless entry":   newPage(0).words(0, 1<<31, 0).page(0),
		"an endless padding": newPage(0).words(1<<5|entryPadding, 1<<30, 0).page(0),
		"half a request":     newPage(0).words(4, 2104, 0, 0, 0).page(0),
		"an endless disk":    newPage(0).request(0, 2104, 1<<63, 1, "W", false).page(0),
		"half a time":        newPage(0).words(entryLater).page(0),
	} {
		if seen, err := all(b); err == nil {
			t.Errorf("%s: %+v", what, seen)
		}
	}
}

func TestLostStatistics(t *testing.T) {
	const none = "entries: 3\noverrun: 0\ncommit overrun: 0\nbytes: 196\noldest event ts: 1\nnow ts: 2\ndropped events: 0\nread events: 7\n"
	for text, want := range map[string]bool{none: false, "": true, "entries: 3\noverrun: 0\n": true,
		"overrun: 1\ncommit overrun: 0\ndropped events: 0\n": true, "overrun: 0\ncommit overrun: 2\ndropped events: 0\n": true, "overrun: 0\ncommit overrun: 0\ndropped events: 12\n": true} {
		if lost(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

func FuzzPages(f *testing.F) {
	f.Add(newPage(1000).request(5, 2104, 80, 8, "WS", false).words(7<<5|entryLater, 2).page(0))
	f.Add(newPage(1).words(3<<5|entryPadding, 8, 0).words(4<<5|1, 5).words(100<<5|entryAbsolute, 9).page(0))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		testEvents().each(b, func(e Event) {
			if n++; e.Kind != Marked && (e.First < 0 || e.End <= e.First) {
				t.Errorf("%+v", e)
			}
		})
		if n > len(b)/4 {
			t.Errorf("%d events of %d bytes", n, len(b))
		}
	})
}

func FuzzFormats(f *testing.F) {
	f.Add(headerPage)
	f.Add(issue419)
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parsePage(text); err == nil && (p.size <= 0 || p.size > 1<<21) {
			t.Errorf("%+v", p)
		}
		parseRequest(text)
	})
}
