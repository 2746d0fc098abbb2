package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// The file s.Hits has a line for each fault that came to pass, and for each call that a
// fault could have been about.
const (
	hitLine  = "hit %s=%d\n"
	seenLine = "seen %s %s\n"
)

// note decides on a call, of those that a program makes, and writes down what became of it:
// the fault that meets it, or nil. made counts the calls that each fault is about.
func (s Sandbox) note(hits io.Writer, made []int, call, file string) *Fault {
	var met *Fault
	for i, f := range s.Faults {
		if !s.meets(f, call, file) {
			continue
		}
		if made[i]++; met == nil && (len(f.Only) == 0 || slices.Contains(f.Only, made[i])) {
			fmt.Fprintf(hits, hitLine, f, made[i])
			met = &s.Faults[i]
		}
	}
	if met == nil {
		fmt.Fprintf(hits, seenLine, call, s.Name(file))
	}
	return met
}

// Missed is an error that names a fault that never came to pass, and the calls of its kind
// that were made; nil if all did. What came to pass is forgotten.
func (s Sandbox) Missed() error {
	if len(s.Faults) == 0 {
		return nil
	}
	text, err := os.ReadFile(s.Hits)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // without a file there was no call at all
		return err
	}
	os.Remove(s.Hits)
	for _, f := range s.Faults {
		want := []string{fmt.Sprintf("\nhit %s=", f)}
		for i, n := range f.Only {
			want = append(want[:i], "\n"+fmt.Sprintf(hitLine, f, n))
		}
		for _, w := range want {
			if !strings.Contains("\n"+string(text), w) {
				return fmt.Errorf("%s never came to pass: %s", strings.Trim(w[len("\nhit "):], "=\n"), seen(string(text), f.Call))
			}
		}
	}
	return nil
}

// seen tells on which files a call was made.
func seen(text, call string) string {
	var files []string
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		if file, ok := strings.CutPrefix(lines.Text(), "seen "+call+" "); ok && !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	if len(files) == 0 {
		return "no other " + call + " was made"
	}
	return call + " was made on " + strings.Join(files, ", ")
}
