// Package openmetrics writes gauges in the text format that monitoring systems read (OpenMetrics 1.0, prometheus/OpenMetrics,
// specification/OpenMetrics.md), and of that only what Prometheus' older text format has as well: node_exporter reads files in that.
package openmetrics

import (
	"bufio"
	"io"
	"strconv"
	"strings"
	"unicode"
)

// Text is a text that is being made.
type Text struct {
	families []*Family
}

// Family is all values of one name.
type Family struct {
	name, unit, help string
	samples          []string
}

// Gauge adds a family. Its name ends with its unit, if it has one.
func (t *Text) Gauge(name, unit, help string) *Family {
	f := &Family{name: name, unit: unit, help: help}
	t.families = append(t.families, f)
	return f
}

// Add adds a value, with names and values of labels in turn. The values may be anybody's.
func (f *Family) Add(value float64, labels ...string) {
	var b strings.Builder
	b.WriteString(f.name)
	for i := 0; i+1 < len(labels); i += 2 {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(labels[i])
		b.WriteString(`="`)
		b.WriteString(escape(labels[i+1]))
		b.WriteByte('"')
	}
	if len(labels) > 1 {
		b.WriteByte('}')
	}
	b.WriteByte(' ')
	b.WriteString(strconv.FormatFloat(value, 'f', -1, 64))
	b.WriteByte('\n')
	f.samples = append(f.samples, b.String())
}

// escape is a text between quotes. What could control a terminal is left out: such texts are looked at by people as well.
func escape(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == '"':
			b.WriteString(`\"`)
		case r == '\n':
			b.WriteString(`\n`)
		case !unicode.IsPrint(r):
			b.WriteRune(unicode.ReplacementChar)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// WriteTo writes it. Families without values are left out.
func (t *Text) WriteTo(w io.Writer) (n int64, err error) {
	b := bufio.NewWriter(w)
	say := func(parts ...string) {
		for _, p := range parts {
			written, _ := b.WriteString(p) // Flush has the error
			n += int64(written)
		}
	}
	for _, f := range t.families {
		if len(f.samples) == 0 {
			continue
		}
		say("# TYPE ", f.name, " gauge\n")
		if f.unit != "" {
			say("# UNIT ", f.name, " ", f.unit, "\n")
		}
		// The two formats differ in whether quotes are escaped here: so there are none.
		say("# HELP ", f.name, " ", escape(strings.ReplaceAll(f.help, `"`, "'")), "\n")
		say(f.samples...)
	}
	say("# EOF\n")
	return n, b.Flush()
}
