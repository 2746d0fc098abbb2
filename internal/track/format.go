package track

import (
	"fmt"
	"strconv"
	"strings"
)

// field is where a member of an event or of a page's header is, in bytes.
type field struct{ offset, size int }

// parseFields reads what a file format or header_page says of members, and the number of
// the kind of event.
//
//	ID: 2104
//		field:sector_t sector;	offset:16;	size:8;	signed:0;
func parseFields(text string) (id int, fields map[string]field, err error) {
	fields = map[string]field{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if number, ok := strings.CutPrefix(line, "ID:"); ok {
			if id, err = strconv.Atoi(strings.TrimSpace(number)); err != nil {
				return 0, nil, err
			}
		}
		declaration, ok := strings.CutPrefix(line, "field:")
		if !ok {
			continue
		}
		parts := strings.Split(declaration, ";")
		words := strings.Fields(parts[0])
		if len(parts) < 3 || len(words) == 0 {
			return 0, nil, fmt.Errorf("a member without offset: %q", line)
		}
		var f field
		for _, part := range parts[1:] {
			name, value, _ := strings.Cut(strings.TrimSpace(part), ":")
			n, _ := strconv.Atoi(value)
			switch name {
			case "offset":
				f.offset = n
			case "size":
				f.size = n
			}
		}
		name, _, _ := strings.Cut(words[len(words)-1], "[")
		if _, there := fields[name]; !there { // header_page has a second view of commit
			fields[name] = f
		}
	}
	return id, fields, nil
}

// member finds one that must be there, with one of these sizes.
func member(fields map[string]field, name string, sizes ...int) (field, error) {
	f, ok := fields[name]
	if !ok {
		return f, fmt.Errorf("no member %s", name)
	}
	for _, size := range sizes {
		if f.size == size && f.offset >= 0 {
			return f, nil
		}
	}
	return f, fmt.Errorf("member %s has %d bytes at %d", name, f.size, f.offset)
}

// request is where the events block_rq_issue and block_rq_complete have what counts.
type request struct {
	id                int
	sector, count, op field
	shortest          int // bytes that an event has at least
}

func parseRequest(text string) (r request, err error) {
	id, fields, err := parseFields(text)
	if err != nil {
		return r, err
	}
	r.id = id
	if r.sector, err = member(fields, "sector", 8); err != nil {
		return r, err
	}
	if r.count, err = member(fields, "nr_sector", 4); err != nil {
		return r, err
	}
	// Of 8 letters in Linux 4.19, of 9 and of 10 later: what counts is among the first two.
	r.op = fields["rwbs"]
	if r.op.size < 2 || r.op.offset < 0 {
		return r, fmt.Errorf("member rwbs has %d bytes at %d", r.op.size, r.op.offset)
	}
	for _, f := range []field{r.sector, r.count, r.op} {
		r.shortest = max(r.shortest, f.offset+f.size)
	}
	if id == 0 {
		return r, fmt.Errorf("no ID")
	}
	return r, nil
}

// page is how the kernel hands out its buffers.
type page struct {
	time, commit, data field
	size               int // of all
}

func parsePage(text string) (p page, err error) {
	_, fields, err := parseFields(text)
	if err != nil {
		return p, err
	}
	if p.time, err = member(fields, "timestamp", 8); err != nil {
		return p, err
	}
	if p.commit, err = member(fields, "commit", 4, 8); err != nil {
		return p, err
	}
	data, ok := fields["data"]
	if !ok || data.size < 64 || data.size > 1<<20 || data.offset < p.commit.offset+4 || data.offset < p.time.offset+8 {
		return p, fmt.Errorf("pages of %d bytes from %d", data.size, data.offset)
	}
	p.data, p.size = data, data.offset+data.size
	return p, nil
}
