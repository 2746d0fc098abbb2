package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/tools/txtar"

	"reflinksr/cmd/srcrash/internal/explore"
	"reflinksr/cmd/srcrash/internal/rig"
)

// mutant is a bug that is sown into the plugin to see whether it is found. It is
// a few replacements in source files at build time (go build -overlay), so no
// program that is shipped can have it.
type mutant struct {
	name    string
	about   string
	finder  []string // modes of the sweep; or hammer, load, and test PACKAGE NAME
	calls   string   // those that the sweep is told to look at
	on      []string // kinds of filesystem, of which one suffices
	replace []replacement
}

// replacement changes one place of a source file.
type replacement struct{ file, old, new string }

// parseMutant reads a mutant's file: a sentence, lines of the form "word: value",
// and pairs of files "PATH: old" and "PATH: new".
func parseMutant(name string, data []byte) (m mutant, err error) {
	m.name = name
	archive := txtar.Parse(data)
	for line := range strings.Lines(string(archive.Comment)) {
		word, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch word {
		case "finder":
			m.finder = strings.Fields(value)
		case "calls":
			m.calls = value
		case "on":
			m.on = strings.Split(value, ",")
		default:
			m.about = strings.TrimSpace(m.about + " " + strings.TrimSpace(line))
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
	if m.about == "" || len(m.finder) == 0 || len(m.on) == 0 || len(m.replace) == 0 || len(archive.Files)%2 != 0 {
		return m, fmt.Errorf("mutant %s: want a sentence, finder, on, and pairs of files", name)
	}
	return m, nil
}

// overlay writes the changed sources to dir and the file that go build -overlay
// reads. root is the module's directory.
func (m mutant) overlay(root, dir string) (path string, err error) {
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
			return "", fmt.Errorf("mutant %s: the text to replace is %d times in %s; has the program changed?", m.name, n, r.file)
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

// mutants sows bugs and fails if one is not found.
func mutants(args []string, out io.Writer) error {
	var match, root string
	var o sweeping
	f := flag.NewFlagSet("mutants", flag.ContinueOnError)
	f.StringVar(&match, "run", "", "")
	f.StringVar(&root, "source", ".", "")
	f.StringVar(&o.dir, "dir", "", "")
	f.IntVar(&o.workers, "j", 3, "")
	if err := f.Parse(args); err != nil {
		return flag.ErrHelp
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	all, err := readMutants(root, match)
	if err != nil {
		return err
	}
	start := time.Now()
	survived := 0
	for _, m := range all {
		begin := time.Now()
		how, err := m.hunt(root, o)
		verdict := "found"
		if err != nil {
			verdict, how = "SURVIVED", err.Error()
			survived++
		}
		fmt.Fprintf(out, "%-8s %5.1f s  %-40s %s: %s\n", verdict, time.Since(begin).Seconds(), m.name, strings.Join(m.finder, " "), how)
	}
	fmt.Fprintf(out, "%d mutants, %d found, %d survived, in %.0f s\n", len(all), len(all)-survived, survived, time.Since(start).Seconds())
	if survived > 0 {
		return fmt.Errorf("%d mutants survived: what should find them is blind", survived)
	}
	return nil
}

func readMutants(root, match string) (all []mutant, err error) {
	re, err := regexp.Compile(match)
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(root, "testdata/mutants/*.txtar"))
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
		m, err := parseMutant(name, data)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no mutant matches %q in %s/testdata/mutants: run this in a clone of the repository, or name one by -source", match, root)
	}
	return all, nil
}

// hunt builds the mutant and lets loose on it what should find it. The error says
// why it was not found.
func (m mutant) hunt(root string, o sweeping) (how string, err error) {
	dir, err := workDir(o.dir)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	overlay, err := m.overlay(root, dir)
	if err != nil {
		return "", err
	}
	if m.finder[0] == "test" {
		return m.test(root, overlay)
	}
	program := filepath.Join(dir, "reflinksr")
	build := exec.Command("go", "build", "-overlay", overlay, "-o", program, "./cmd/reflinksr")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("it cannot be built: %s", bytes.TrimSpace(text))
	}
	if o.plugin, err = rig.InstallFrom(program, dir); err != nil {
		return "", err
	}
	for _, fs := range m.on {
		mode, _, _ := strings.Cut(m.finder[0], ":")
		if mode, _, _ = strings.Cut(mode, ","); slices.Contains(explore.Modes, mode) {
			how, err = m.sweep(fs, o)
		} else {
			how, err = m.run(fs, o.plugin)
		}
		if err == nil {
			return how, nil
		}
	}
	return "", err
}

func (m mutant) sweep(fs string, o sweeping) (string, error) {
	o.fs, o.modes, o.match, o.part = fs, m.finder[0], m.calls, "1/1"
	t, err := o.run(io.Discard, false)
	if err != nil {
		return "", err
	}
	if t.wrong == 0 {
		return "", fmt.Errorf("%d states judged on %s, and nothing found", t.judged, fs)
	}
	return fmt.Sprintf("%d of %d states on %s, the first: %.150s", t.wrong, t.judged, fs, describe(t.found[0])), nil
}

// run is for finders that are commands of their own: if they have found something,
// they fail and speak of violations.
func (m mutant) run(fs string, p rig.Plugin) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	args := append(slices.Clone(m.finder), "-fs", fs, "-volume", p.Volume, "-datapath", p.Datapath)
	text, err := exec.Command(self, args...).CombinedOutput()
	if err == nil {
		return "", fmt.Errorf("%s on %s found nothing", strings.Join(m.finder, " "), fs)
	}
	if !strings.Contains(string(text), "violation") {
		return "", fmt.Errorf("%s on %s could not look: %w: %s", strings.Join(m.finder, " "), fs, err, last(text))
	}
	return fmt.Sprintf("on %s: %.150s", fs, last(text)), nil
}

func last(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " ")
}

// test is for finders that are Go tests.
func (m mutant) test(root, overlay string) (string, error) {
	if len(m.finder) != 3 {
		return "", errors.New("finder: want test PACKAGE NAME")
	}
	c := exec.Command("go", "test", "-overlay", overlay, "-count=1", "-run", "^"+m.finder[2]+"$", m.finder[1])
	c.Dir = root
	text, err := c.CombinedOutput()
	if err == nil {
		return "", fmt.Errorf("%s passes", m.finder[2])
	}
	if !strings.Contains(string(text), "--- FAIL: ") {
		return "", fmt.Errorf("%s could not look: %w: %s", m.finder[2], err, last(text))
	}
	return m.finder[2] + " fails", nil
}
