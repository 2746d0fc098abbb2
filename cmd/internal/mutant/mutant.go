// Package mutant reads bugs that are sown on purpose, to see whether what should find
// them does. A mutant is a few replacements in source files at build time
// (go build -overlay), so no program that is shipped can have it.
package mutant

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

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
