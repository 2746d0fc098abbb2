package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"reflinksr/scripts"
)

// tap prints results as TAP, version 14 (testanything.org), one test point per
// scenario, with what is to be said of a failure as its YAML block.
type tap struct {
	out     io.Writer
	verbose bool
	points  int
}

func newTAP(out io.Writer, verbose bool) *tap { return &tap{out: out, verbose: verbose} }

func (t *tap) result(r scripts.Result) {
	if t.points == 0 {
		fmt.Fprintln(t.out, "TAP version 14")
	}
	t.points++
	name := r.FS + "/" + r.Name
	switch r.Verdict {
	case scripts.Failed:
		fmt.Fprintf(t.out, "not ok %d - %s\n", t.points, name)
	case scripts.Skipped:
		fmt.Fprintf(t.out, "ok %d - %s # SKIP %s\n", t.points, name, r.Why)
	default:
		fmt.Fprintf(t.out, "ok %d - %s\n", t.points, name)
	}
	if r.Failure == nil && !t.verbose {
		return
	}
	fmt.Fprintln(t.out, "  ---")
	if f := r.Failure; f != nil {
		t.field("at", filepath.Base(f.File)+":"+strconv.Itoa(f.Line))
		t.field("command", strings.TrimSpace(f.Command))
		t.field("should_hold", f.Phase)
		t.field("but", f.Error)
		if f.Last != nil {
			t.field("last_call", f.Last.Method)
			t.field("request", f.Last.Request)
			t.field("answer", strings.TrimSpace(f.Last.Answer))
		}
	}
	t.field("log", r.Log)
	fmt.Fprintf(t.out, "  duration_ms: %.0f\n  ...\n", r.Seconds*1000)
}

// field prints a YAML string: one line quoted, several as a block.
func (t *tap) field(name, value string) {
	switch {
	case value == "":
	case strings.Contains(value, "\n"):
		fmt.Fprintf(t.out, "  %s: |-\n", name)
		for line := range strings.Lines(value) {
			fmt.Fprintf(t.out, "    %s\n", strings.ToValidUTF8(strings.TrimRight(line, "\r\n"), "?"))
		}
	default:
		quoted, err := json.Marshal(value) // a JSON string is one of YAML
		if err == nil {
			fmt.Fprintf(t.out, "  %s: %s\n", name, quoted)
		}
	}
}

// end says what was skipped and why, and the numbers last.
func (t *tap) end(sum tally) {
	fmt.Fprintf(t.out, "1..%d\n", t.points)
	for _, why := range slices.Sorted(maps.Keys(sum.why)) {
		fmt.Fprintf(t.out, "# skipped, %s: %s\n", why, strings.Join(slices.Sorted(slices.Values(sum.why[why])), " "))
	}
	if sum.failed > 0 {
		fmt.Fprintf(t.out, "# failed: %s\n", strings.Join(sum.red, " "))
	}
	fmt.Fprintf(t.out, "# %d passed, %d failed, %d skipped\n", sum.passed, sum.failed, sum.skipped)
}

// jsonLines prints results as JSON, one object a line.
type jsonLines struct{ enc *json.Encoder }

func newJSONLines(out io.Writer) jsonLines {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return jsonLines{enc}
}

func (j jsonLines) result(r scripts.Result) { j.enc.Encode(r) }

func (j jsonLines) end(sum tally) {
	j.enc.Encode(map[string]int{"passed": sum.passed, "failed": sum.failed, "skipped": sum.skipped})
}
