package openmetrics

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"reflinksr/scripts/metrictext"
)

func TestText(t *testing.T) {
	var text Text
	size := text.Gauge("x_size_bytes", "bytes", "how \"large\"\nit is")
	text.Gauge("x_none", "", "of which there is nothing")
	info := text.Gauge("x_info", "", "what it is")
	info.Add(1, "name", "a\"b\\c\nd\x1b[31m\xff\u202e日本", "sr", "")
	size.Add(1<<60, "sr", "a")
	size.Add(0.25, "sr", "b")
	size.Add(-1)
	var b strings.Builder
	n, err := text.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Error(n, err)
	}
	samples, err := metrictext.Parse(b.String())
	if want := "[x_size_bytes{sr=\"a\"} 1.152921504606847e+18 x_size_bytes{sr=\"b\"} 0.25 x_size_bytes{} -1 " +
		"x_info{name=\"a\"b\\c\\nd\uFFFD[31m\uFFFD\uFFFD日本\",sr=\"\"} 1]"; err != nil || fmt.Sprint(samples) != want {
		t.Errorf("%v, %v, of:\n%s", samples, err, b.String())
	}
	if !strings.Contains(b.String(), "# HELP x_size_bytes how 'large'\\nit is\n") {
		t.Errorf("%s", b.String())
	}
	if _, err := text.WriteTo(full{}); !errors.Is(err, errFull) {
		t.Errorf("on a full disk: %v", err)
	}
}

var errFull = errors.New("full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// Whatever a name is, the text is one, and only has what can be printed.
func FuzzLabel(f *testing.F) {
	f.Add("a\\\"\n", "\x00}{")
	f.Fuzz(func(t *testing.T, a, b string) {
		var text Text
		g := text.Gauge("g", "", a)
		g.Add(1, "a", a, "b", b)
		var out strings.Builder
		if _, err := text.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		samples, err := metrictext.Parse(out.String())
		if err != nil || len(samples) != 1 {
			t.Errorf("%v, %v", samples, err)
		}
		if i := strings.IndexFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%q", out.String()[i:])
		}
	})
}
