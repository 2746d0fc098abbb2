// Package mutant reads bugs that are sown on purpose, to see whether what should find
// them does. A mutant is a few replacements in source files at build time
// (go build -overlay), so no program that is shipped can have it.
package mutant

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/tools/txtar"
)

// Dir is where mutants are, below the module's directory.
const Dir = "testdata/mutants"

// Mutant is a bug and who should find it: srcrash, the lab, or both.
type Mutant struct {
	Name    string
	About   string
	Finder  []string // of srcrash: modes of the sweep; or hammer, load, and test PACKAGE NAME
	Calls   string   // those that the sweep is told to look at
	On      []string // kinds of filesystem; one suffices for srcrash, the lab takes the first
	Lab     []Play
	replace []replacement
}

// Play is a scenario of the lab, xen/power_cut for example, and the line of it that
// must fail. Of several lines with this text it may be any.
type Play struct{ Scenario, Line string }

// replacement changes one place of a source file.
type replacement struct{ file, old, new string }

// Parse reads a mutant's file: a sentence, lines of the form "word: value", and pairs of
// files "PATH: old" and "PATH: new".
func Parse(name string, data []byte) (m Mutant, err error) {
	m.Name = name
	archive := txtar.Parse(data)
	for line := range strings.Lines(string(archive.Comment)) {
		word, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch word {
		case "finder":
			m.Finder = strings.Fields(value)
		case "calls":
			m.Calls = value
		case "on":
			m.On = strings.Split(value, ",")
		case "lab":
			scenario, line, _ := strings.Cut(value, ": ")
			if !regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+$`).MatchString(scenario) || line == "" {
				return m, fmt.Errorf("mutant %s: want lab: KIND/SCENARIO: LINE", name)
			}
			m.Lab = append(m.Lab, Play{scenario, line})
		default:
			m.About = strings.TrimSpace(m.About + " " + strings.TrimSpace(line))
		}
	}
	for i := 0; i+1 < len(archive.Files); i += 2 {
		old, isOld := strings.CutSuffix(archive.Files[i].Name, ": old")
		replaced, isNew := strings.CutSuffix(archive.Files[i+1].Name, ": new")
		if !isOld || !isNew || old != replaced {
			return m, fmt.Errorf("mutant %s: after %q comes %q; want FILE: old and FILE: new", name, archive.Files[i].Name, archive.Files[i+1].Name)
		}
		m.replace = append(m.replace, replacement{old, string(archive.Files[i].Data), string(archive.Files[i+1].Data)})
	}
	if m.About == "" || len(m.Finder)+len(m.Lab) == 0 || len(m.On) == 0 || len(m.replace) == 0 || len(archive.Files)%2 != 0 {
		return m, fmt.Errorf("mutant %s: want a sentence, finder or lab, on, and pairs of files", name)
	}
	return m, nil
}

// Read reads the mutants of the module at root whose names match and that are wanted.
func Read(root, match string, wanted func(Mutant) bool) (all []Mutant, err error) {
	re, err := regexp.Compile(match)
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(root, Dir, "*.txtar"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".txtar")
		if !re.MatchString(name) {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		m, err := Parse(name, data)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	all = slices.DeleteFunc(all, func(m Mutant) bool { return !wanted(m) })
	if len(all) == 0 {
		return nil, fmt.Errorf("no mutant for this matches %q in %s/%s: run it in a clone of the repository, or name one by -source", match, root, Dir)
	}
	return all, nil
}

// Overlay writes the changed sources to dir and the file that go build -overlay reads.
// root is the module's directory.
func (m Mutant) Overlay(root, dir string) (path string, err error) {
	sources := map[string]string{}
	for _, r := range m.replace {
		file := filepath.Join(root, r.file)
		text, ok := sources[file]
		if !ok {
			data, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			text = string(data)
		}
		// The archive's last line ends; what it stands for need not.
		old, replaced := strings.TrimSuffix(r.old, "\n"), strings.TrimSuffix(r.new, "\n")
		if n := strings.Count(text, old); n != 1 {
			return "", fmt.Errorf("mutant %s: the text to replace is %d times in %s; has the program changed?", m.Name, n, r.file)
		}
		sources[file] = strings.Replace(text, old, replaced, 1)
	}
	replace := map[string]string{}
	for file, text := range sources {
		changed := filepath.Join(dir, strings.ReplaceAll(strings.TrimPrefix(file, root+"/"), "/", "_"))
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[file] = changed
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, data, 0o600)
}

// Build builds programs of cmd with the mutant in them, into dir, which gets the overlay
// as well.
func (m Mutant) Build(ctx context.Context, root, dir string, programs ...string) error {
	overlay, err := m.Overlay(root, dir)
	if err != nil {
		return err
	}
	for _, program := range programs {
		build := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", filepath.Join(dir, program), "./cmd/"+program) // #nosec G204 -- the tester names the program
		build.Dir = root
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("it cannot be built: %s", bytes.TrimSpace(text))
		}
	}
	return nil
}

// Hunt hunts mutants one after the other and tells of each. The error of hunt says why one
// was not found; Hunt fails if there was such a one.
func Hunt(ctx context.Context, all []Mutant, hunt func(Mutant) (how string, err error), tell func(format string, args ...any)) error {
	start := time.Now()
	survived := 0
	for _, m := range all {
		begin := time.Now()
		how, err := hunt(m)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		verdict := "found"
		if err != nil {
			verdict, how = "SURVIVED", err.Error()
			survived++
		}
		tell("%-8s %5.1f s  %-40s %s", verdict, time.Since(begin).Seconds(), m.Name, how)
	}
	tell("%d mutants, %d found, %d survived, in %.0f s", len(all), len(all)-survived, survived, time.Since(start).Seconds())
	if survived > 0 {
		return fmt.Errorf("%d mutants survived: what should find them is blind", survived)
	}
	return nil
}

// Last is the end of what a program printed, n lines of it in one.
func Last(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
