package rrdd

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Reading is what a plugin had measured at a time.
type Reading struct {
	At      float64 // seconds since 1970
	Sources []Source
	Cached  bool // their descriptions were those of the reading before
}

// Source is one of its values.
type Source struct {
	Name        string  `json:"-"`
	Description string  `json:"description"`
	Owner       string  `json:"owner"`
	ValueType   string  `json:"value_type"`
	Type        string  `json:"type"`
	Default     string  `json:"default"`
	Units       string  `json:"units"`
	Min         string  `json:"min"`
	Max         string  `json:"max"`
	Value       float64 `json:"-"`
}

// ErrNoUpdate says that nothing was written since the last reading.
var ErrNoUpdate = errors.New("no update")

// reader has a file mapped as long as the plugin is registered: what the file is like later, it does not see.
type reader struct {
	memory       []byte
	data, about  uint32 // checksums of the last reading
	descriptions []Source
}

func open(path string) (*reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm() != 0o600 {
		return nil, fmt.Errorf("%s has mode %v", path, st.Mode())
	}
	memory, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE) // unmapped with the process: as the real one
	return &reader{memory: memory}, err
}

// The places in the file: "DATASOURCES", two checksums and a number of 32 bits, a time and values of 64, a length of 32, and text.
const (
	header  = "DATASOURCES"
	dataCRC = len(header)
	textCRC = dataCRC + 4
	count   = textCRC + 4
	at      = count + 4
	values  = at + 8
)

func (r *reader) read() (*Reading, error) {
	be := binary.BigEndian
	if len(r.memory) < values || string(r.memory[:dataCRC]) != header {
		return nil, errors.New("invalid header")
	}
	data := be.Uint32(r.memory[dataCRC:])
	if data == r.data {
		return nil, ErrNoUpdate
	}
	n := int(be.Uint32(r.memory[count:]))
	end := values + 8*n
	if end+4 > len(r.memory) {
		return nil, fmt.Errorf("%d sources have no room in %d bytes", n, len(r.memory))
	}
	if crc32.ChecksumIEEE(r.memory[at:end]) != data {
		return nil, errors.New("invalid checksum of the data")
	}
	r.data = data
	reading := &Reading{At: math.Float64frombits(be.Uint64(r.memory[at:])), Cached: true}
	if about := be.Uint32(r.memory[textCRC:]); about != r.about || r.descriptions == nil {
		length := int(be.Uint32(r.memory[end:]))
		if end+4+length > len(r.memory) {
			return nil, fmt.Errorf("a text of %d bytes has no room", length)
		}
		text := r.memory[end+4 : end+4+length]
		if crc32.ChecksumIEEE(text) != about {
			return nil, errors.New("invalid checksum of the text")
		}
		var err error
		if r.descriptions, err = parse(string(text)); err != nil {
			return nil, err
		}
		r.about, reading.Cached = about, false
	}
	if len(r.descriptions) != n {
		return nil, fmt.Errorf("%d values of %d sources", n, len(r.descriptions))
	}
	for i, s := range r.descriptions {
		bits := be.Uint64(r.memory[values+8*i:])
		if s.Value = float64(int64(bits)); s.ValueType == "float" {
			s.Value = math.Float64frombits(bits)
		}
		reading.Sources = append(reading.Sources, s)
	}
	return reading, nil
}

// parse reads the text: an object of one member, an object with a member for each source. Names may be there more than once.
func parse(text string) ([]Source, error) {
	d := json.NewDecoder(strings.NewReader(text))
	expect := func(want json.Token) error {
		got, err := d.Token()
		if err == nil && got != want {
			err = fmt.Errorf("%v instead of %v in %.100s", got, want, text)
		}
		return err
	}
	if err := errors.Join(expect(json.Delim('{')), expect("datasources"), expect(json.Delim('{'))); err != nil {
		return nil, err
	}
	all := []Source{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		s := Source{Owner: "host", Type: "absolute", Default: "false", Min: "-infinity", Max: "infinity"}
		if err := d.Decode(&s); err != nil {
			return nil, err
		}
		s.Name = name.(string)
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		all = append(all, s)
	}
	if err := errors.Join(expect(json.Delim('}')), expect(json.Delim('}'))); err != nil {
		return nil, err
	}
	if d.More() || strings.TrimSpace(text[d.InputOffset():]) != "" {
		return nil, errors.New("junk after the text")
	}
	return all, nil
}

// check is what the real one takes.
func (s Source) check() error {
	owner := strings.Split(s.Owner, " ")
	switch {
	case s.ValueType != "int64" && s.ValueType != "float":
		return fmt.Errorf("a value of type %q", s.ValueType)
	case s.Type != "gauge" && s.Type != "absolute" && s.Type != "derive":
		return fmt.Errorf("type %q", s.Type)
	case s.Default != "true" && s.Default != "false":
		return fmt.Errorf("default %q", s.Default)
	case s.Owner != "host" && (len(owner) != 2 || owner[0] != "vm" && owner[0] != "sr"):
		return fmt.Errorf("owner %q", s.Owner)
	}
	_, err := strconv.ParseFloat(s.Min, 64)
	_, e := strconv.ParseFloat(s.Max, 64)
	return errors.Join(err, e)
}
