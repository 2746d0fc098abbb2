// Package metrictext reads what monitoring systems read, and takes nothing that is not so by the letter: OpenMetrics 1.0
// (prometheus/OpenMetrics, specification/OpenMetrics.md, with its grammar), and at the same time Prometheus' older text format.
package metrictext

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Sample is a value: Labels are sorted, each as name="value" without escapes.
type Sample struct {
	Name   string
	Labels []string
	Value  float64
}

// String is the sample in one line.
func (s Sample) String() string {
	return fmt.Sprintf("%s{%s} %v", s.Name, strings.ReplaceAll(strings.Join(s.Labels, ","), "\n", `\n`), s.Value)
}

var (
	descriptor = regexp.MustCompile(`^# (TYPE|UNIT|HELP) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)$`)
	sample     = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[^"\\]|"(?:[^"\\]|\\.)*")*\})? ([^ ]+)$`)
	label      = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[n"\\])*)"(,|$)`)
	help       = regexp.MustCompile(`^([^"\\\n]|\\[n\\])*$`)
	number     = regexp.MustCompile(`^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$`)
)

// family is the one whose lines are being read.
type family struct {
	name  string
	told  map[string]bool // descriptors
	begun bool            // there was a sample
}

// Parse reads all of a text of gauges.
func Parse(text string) (all []Sample, err error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("it is not UTF-8")
	}
	body, ends := strings.CutSuffix(text, "# EOF\n")
	if !ends || body != "" && !strings.HasSuffix(body, "\n") {
		return nil, errors.New("it does not end with # EOF")
	}
	var f family
	over, seen := map[string]bool{}, map[string]bool{}
	for i, line := range strings.Split(strings.TrimSuffix(body, "\n"), "\n") {
		if body == "" {
			break
		}
		if err := f.line(line, over, seen, &all); err != nil {
			return nil, fmt.Errorf("line %d: %w: %q", i+1, err, line)
		}
	}
	return all, nil
}

func (f *family) line(line string, over, seen map[string]bool, all *[]Sample) error {
	if d := descriptor.FindStringSubmatch(line); d != nil {
		if d[2] != f.name {
			if over[d[2]] {
				return errors.New("the family was there before")
			}
			over[d[2]] = true
			*f = family{name: d[2], told: map[string]bool{}}
		}
		switch {
		case f.begun:
			return errors.New("it is told of a family whose values have begun")
		case f.told[d[1]]:
			return errors.New("it is told twice")
		case d[1] == "TYPE" && d[3] != "gauge":
			return errors.New("it is no gauge")
		case d[1] == "UNIT" && (d[3] == "" || !strings.HasSuffix(f.name, "_"+d[3])):
			return errors.New("the name does not end with the unit")
		case d[1] == "HELP" && !help.MatchString(d[3]):
			return errors.New("bad escapes, or a quote, which the formats escape differently")
		}
		f.told[d[1]] = true
		return nil
	}
	m := sample.FindStringSubmatch(line)
	if m == nil {
		return errors.New("it is nothing")
	}
	if m[1] != f.name || !f.told["TYPE"] {
		return errors.New("a value of no family")
	}
	if !number.MatchString(m[3]) {
		return errors.New("no number")
	}
	value, err := strconv.ParseFloat(m[3], 64)
	if err != nil {
		return err
	}
	labels, err := parseLabels(strings.TrimSuffix(strings.TrimPrefix(m[2], "{"), "}"))
	if err != nil {
		return err
	}
	s := Sample{m[1], labels, value}
	identity := fmt.Sprintf("%s%q", s.Name, s.Labels)
	if seen[identity] {
		return errors.New("it is there twice")
	}
	seen[identity], f.begun = true, true
	*all = append(*all, s)
	return nil
}

func parseLabels(text string) (labels []string, err error) {
	names := map[string]bool{}
	for text != "" {
		m := label.FindStringSubmatch(text)
		if m == nil {
			return nil, fmt.Errorf("bad labels from %q on", text)
		}
		if names[m[1]] {
			return nil, fmt.Errorf("%s is there twice", m[1])
		}
		names[m[1]] = true
		if text = text[len(m[0]):]; m[3] == "," && text == "" {
			return nil, errors.New("a comma and nothing")
		}
		labels = append(labels, m[1]+`="`+strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n").Replace(m[2])+`"`)
	}
	slices.Sort(labels)
	return labels, nil
}
