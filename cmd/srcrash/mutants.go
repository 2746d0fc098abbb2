package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"reflinksr/cmd/internal/mutant"
	"reflinksr/cmd/srcrash/internal/explore"
	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/internal/repository"
)

// sown is a mutant that srcrash hunts.
type sown struct{ mutant.Mutant }

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
	all, err := mutant.Read(root, match, func(m mutant.Mutant) bool { return len(m.Finder) > 0 })
	if err != nil {
		return err
	}
	return mutant.Hunt(context.Background(), all, func(m mutant.Mutant) (string, error) {
		how, err := sown{m}.hunt(root, o)
		return strings.Join(m.Finder, " ") + ": " + how, err
	}, func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) })
}

// hunt builds the mutant and lets loose on it what should find it. The error says
// why it was not found.
func (m sown) hunt(root string, o sweeping) (how string, err error) {
	dir, err := workDir(o.dir)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if m.Finder[0] == "test" {
		return m.test(root, dir)
	}
	programs := []string{"reflinksr"}
	if strings.Contains(m.Calls, "migration") {
		programs = append(programs, repository.ServerProgram) // which is installed with it
	}
	for _, program := range programs {
		if err := m.Build(context.Background(), root, dir, program); err != nil {
			return "", err
		}
	}
	if o.plugin, err = rig.InstallFrom(filepath.Join(dir, "reflinksr"), dir); err != nil {
		return "", err
	}
	for _, fs := range m.On {
		mode, _, _ := strings.Cut(m.Finder[0], ":")
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

func (m sown) sweep(fs string, o sweeping) (string, error) {
	o.fs, o.modes, o.match, o.every, o.part = fs, m.Finder[0], m.Calls, "1/1", "1/1"
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
func (m sown) run(fs string, p rig.Plugin) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	args := append(slices.Clone(m.Finder), "-fs", fs, "-volume", p.Volume, "-datapath", p.Datapath)
	text, err := exec.Command(self, args...).CombinedOutput()
	if err == nil {
		return "", fmt.Errorf("%s on %s found nothing", strings.Join(m.Finder, " "), fs)
	}
	if !strings.Contains(string(text), "violation") {
		return "", fmt.Errorf("%s on %s could not look: %w: %s", strings.Join(m.Finder, " "), fs, err, mutant.Last(string(text), 3))
	}
	return fmt.Sprintf("on %s: %.150s", fs, mutant.Last(string(text), 3)), nil
}

// test is for finders that are Go tests.
func (m sown) test(root, dir string) (string, error) {
	if len(m.Finder) != 3 {
		return "", errors.New("finder: want test PACKAGE NAME")
	}
	overlay, err := m.Overlay(root, dir)
	if err != nil {
		return "", err
	}
	c := exec.Command("go", "test", "-overlay", overlay, "-count=1", "-run", "^"+m.Finder[2]+"$", m.Finder[1])
	c.Dir = root
	text, err := c.CombinedOutput()
	if err == nil {
		return "", fmt.Errorf("%s passes", m.Finder[2])
	}
	if !strings.Contains(string(text), "--- FAIL: ") {
		return "", fmt.Errorf("%s could not look: %w: %s", m.Finder[2], err, mutant.Last(string(text), 3))
	}
	return m.Finder[2] + " fails", nil
}
