package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"reflinksr/cmd/internal/mutant"
)

// failedAt begins the line that tells where a scenario failed.
const failedAt = "it failed at: "

// mutants builds the lab with bugs sown into it, plays the scenario that should find each,
// and fails if one is not found, or at another line of the scenario than it should.
func (l *lab) mutants(source, match string) error {
	root, err := filepath.Abs(source)
	if err != nil {
		return err
	}
	all, err := mutant.Read(root, match, func(m mutant.Mutant) bool { return len(m.Lab) > 0 })
	if err != nil {
		return err
	}
	return mutant.Hunt(l.ctx, all, func(m mutant.Mutant) (string, error) { return l.hunt(m, root) }, l.tell)
}

// hunt plays what should find a mutant. The error says why it was not found.
func (l *lab) hunt(m mutant.Mutant, root string) (how string, err error) {
	dir, err := os.MkdirTemp("", "srlab-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := m.Build(l.ctx, root, dir, "srlab", "srctl"); err != nil {
		return "", err
	}
	var found []string
	for _, play := range m.Lab {
		kind, name, _ := strings.Cut(play.Scenario, "/")
		c := exec.CommandContext(l.ctx, dir+"/srlab", "-cache", l.cache, "-srctl", dir+"/srctl", "-run", "^"+name+"$", "-fs", m.On[0], kind)
		c.Cancel = func() error { return c.Process.Signal(os.Interrupt) } // it has machines to switch off
		c.WaitDelay = 20 * time.Second
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		if err := c.Run(); err == nil {
			return "", fmt.Errorf("%s passes", play.Scenario)
		}
		_, at, failed := strings.Cut(out.String(), failedAt)
		at, why, _ := strings.Cut(at, "\n")
		if !failed || at != play.Line {
			return "", fmt.Errorf("%s should fail at %q, and failed at %q: %s", play.Scenario, play.Line, at, mutant.Last(out.String(), 6))
		}
		found = append(found, fmt.Sprintf("%s: %s (%.150s)", play.Scenario, at, strings.Join(strings.Fields(why), " ")))
	}
	return strings.Join(found, "; "), nil
}
