package rrd

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"math"
	"time"
)

// Kind says what a value is of.
type Kind string

// The kinds of values.
const (
	Gauge    Kind = "gauge"    // as it is
	Derive   Kind = "derive"   // a counter, of which the graph shows the growth per second
	Absolute Kind = "absolute" // since the last reading, of which the graph shows a second's part
)

// Host owns what is not of one VM.
const Host = "host"

// VM owns what is of that VM.
func VM(uuid string) string { return "vm " + uuid }

// Source is one graph and its value now.
type Source struct {
	Name, Owner, Description, Units string
	Kind                            Kind
	Value                           Value
}

// Value is a number as the protocol has it.
type Value struct {
	bits  uint64
	float bool
}

// Int is a whole number.
func Int(n uint64) Value { return Value{min(n, math.MaxInt64), false} }

// Float is a number.
func Float(x float64) Value { return Value{math.Float64bits(x), true} }

func (v Value) kind() string {
	if v.float {
		return "float"
	}
	return "int64"
}

const (
	magic    = "DATASOURCES"
	valuesAt = len(magic) + 3*4 + 8 // after two checksums, the number of sources and the time
)

// payload is what the file holds: all of it big-endian. The checksum of the data is of the time and the values. That of the
// descriptions stays the same as long as the sources do, and then the daemon need not read them.
func payload(at time.Time, sources []Source) ([]byte, error) {
	descriptions, err := describe(sources)
	if err != nil {
		return nil, err
	}
	be := binary.BigEndian
	data := be.AppendUint64(nil, math.Float64bits(float64(at.UnixMicro())/1e6))
	for _, s := range sources {
		data = be.AppendUint64(data, s.Value.bits)
	}
	p := append(make([]byte, 0, valuesAt+len(data)+len(descriptions)), magic...)
	p = be.AppendUint32(p, crc32.ChecksumIEEE(data))
	p = be.AppendUint32(p, crc32.ChecksumIEEE(descriptions))
	p = be.AppendUint32(p, uint32(len(sources))) // #nosec G115 -- their size is bounded by the file's
	p = append(p, data...)
	p = be.AppendUint32(p, uint32(len(descriptions))) // #nosec G115
	return append(p, descriptions...), nil
}

// describe tells what the values are, in their order. It is an object in which a name can be there more than once: two VMs have
// a disk xvda each, and their graphs have one name and two owners. So no map can be encoded.
func describe(sources []Source) ([]byte, error) {
	b := bytes.NewBufferString(`{"datasources":{`)
	for i, s := range sources {
		name, err := json.Marshal(s.Name)
		if err != nil {
			return nil, err
		}
		about, err := json.Marshal(struct {
			Description string `json:"description"`
			Owner       string `json:"owner"`
			ValueType   string `json:"value_type"`
			Type        Kind   `json:"type"`
			Default     string `json:"default"`
			Units       string `json:"units"`
			Min         string `json:"min"`
			Max         string `json:"max"`
		}{s.Description, s.Owner, s.Value.kind(), s.Kind, "true", s.Units, "0.0", "inf"})
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(about)
	}
	b.WriteString("}}")
	return b.Bytes(), nil
}
