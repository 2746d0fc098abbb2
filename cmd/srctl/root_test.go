package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// Arguments that make no sense are exit status 2, and one sentence with the usage.
func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"x"}, {"ls", "a", "b"}, {"show", "a"}, {"check"}, {"lease", "break", "x"}, {"demo", "x"}, {"ls", "-x"}, {"ls", "--x"},
		{"changed", "a", "b"}, {"du", "a", "b"}, {"compact", "a"}, {"compact", "-unused", "-1", "a", "b"}, {"compact", "--unused", "x", "a", "b"}, {"tree"}, {"delta"},
		{"delta", "export", "a", "b"}, {"delta", "apply", "a"}, {"delta", "x"}, {"help", "x"}, {"help", "delta", "x"}, {"completion", "x"}, {"completion"}, {"man"}, {"version", "x"},
		{"demo", "--json"}, {"metrics", "a", "b"}, {"metrics", "--within", "x"}, {"metrics", "--within", "-1s"}, {"support", "a"},
		{"backup", "a", "b"}, {"backup", "--keep", "x", "a", "b", "c"}, {"backup", "--full-every", "0", "a", "b", "c"}, {"backups"}, {"backups", "a", "b", "c"}, {"restore", "a"}, {"restore", "a", "b"}, {"restore", "--to", "a", "b", "c", "d"}, {"restore", "--name", "x", "a", "b", "c"}, {"restore", "--to", "a", "--overwrite", "b", "c"}} {
		var out, errs bytes.Buffer
		if status := run(args, &out, &errs); status != 2 || !strings.Contains(errs.String(), "\nusage: srctl") || out.Len() > 0 {
			t.Errorf("%q: exit %d, %q, %q", args, status, out.String(), errs.String())
		}
	}
}

// What is mistyped is named, and so is its neighbour.
func TestUnknownCommand(t *testing.T) {
	for typed, want := range map[string]string{
		"snaphsot":      `srctl: there is no command "snaphsot": is snapshot meant?`,
		"l":             `srctl: there is no command "l": is du or lease or ls or sr meant?`,
		"frobnicate":    `srctl: there is no command "frobnicate"` + "\n",
		"delta aply x":  `srctl delta: there is no command "aply": is apply meant?`,
		"lease brek a":  `srctl lease: there is no command "brek": is break meant?`,
		"help delta ex": `srctl help: there is no command "ex"`,
		"\x1b[31m":      `srctl: there is no command "\x1b[31m"`,
	} {
		var out, errs bytes.Buffer
		if run(strings.Fields(typed), &out, &errs); !strings.HasPrefix(errs.String(), want) {
			t.Errorf("%q: %s", typed, errs.String())
		}
	}
}

// each runs do for every command of the tree.
func each(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		each(sub, do)
	}
}

// Every command has help of its own, with examples, which is an answer, and fits 80 columns.
func TestHelp(t *testing.T) {
	commands := 0
	each(new(session).root(), func(c *cobra.Command) {
		commands++
		path := strings.Fields(c.CommandPath())[1:]
		var texts []string
		for _, args := range [][]string{append([]string{"help"}, path...), append(path, "--help"), append([]string{"-h"}, path...)} {
			var out, errs bytes.Buffer
			if status := run(args, &out, &errs); status != 0 || errs.Len() > 0 {
				t.Errorf("%q: exit %d, %s", args, status, errs.String())
			}
			texts = append(texts, out.String())
		}
		if texts[0] != texts[1] || texts[0] != texts[2] {
			t.Errorf("%s: the help differs: %q", c.CommandPath(), texts)
		}
		if c.Long == "" || c.Short == "" || c.Example == "" && !c.HasSubCommands() {
			t.Errorf("%s: its help is not whole", c.CommandPath())
		}
		for _, line := range strings.Split(texts[0], "\n") {
			if utf8.RuneCountInString(line) > 80 {
				t.Errorf("%s: more than 80 columns: %s", c.CommandPath(), line)
			}
		}
	})
	if commands < 25 {
		t.Errorf("%d commands", commands)
	}
}

// Flags may stand anywhere, and have the one dash that they had.
func TestFlagsAnywhere(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"check", "--json", dir}, {"check", dir, "--json"}, {"--json", "check", dir}, {"check", "-json", dir}, {"check", dir, "-repair=false", "-json=true"}, {"check", "--json", "--", dir}} {
		var out, errs bytes.Buffer
		if status := run(args, &out, &errs); status != 3 || !strings.HasPrefix(out.String(), "{") {
			t.Errorf("%q: exit %d, %s, %s", args, status, out.String(), errs.String())
		}
	}
}

// The pages of the same sources are the same, and there is one for every command.
func TestManualPages(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	one, two := t.TempDir(), t.TempDir()
	for _, dir := range []string{one, two} {
		var out, errs bytes.Buffer
		if status := run([]string{"man", dir}, &out, &errs); status != 0 || out.Len() > 0 || errs.Len() > 0 {
			t.Fatalf("exit %d, %s, %s", status, out.String(), errs.String())
		}
	}
	pages := 0
	each(new(session).root(), func(c *cobra.Command) {
		if c.Name() == "help" {
			return
		}
		pages++
		name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".8"
		a, err := os.ReadFile(filepath.Join(one, name))
		if err != nil {
			t.Error(err)
			return
		}
		if b, err := os.ReadFile(filepath.Join(two, name)); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs, %v", name, err)
		}
		if !bytes.Contains(a, []byte(`"Nov 2023"`)) || bytes.Contains(a, []byte("cobra")) {
			t.Errorf("%s: %s", name, a)
		}
	})
	if names, err := filepath.Glob(one + "/*"); err != nil || len(names) != pages {
		t.Errorf("%d pages for %d commands: %q", len(names), pages, names)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	var out, errs bytes.Buffer
	for _, dir := range []string{one, filepath.Join(one, "none"), filepath.Join(one, "srctl.8")} {
		if status := run([]string{"man", dir}, &out, &errs); status != 1 {
			t.Errorf("%s: exit %d", dir, status)
		}
	}
}

// The scripts that shells read ask srctl.
func TestCompletionScripts(t *testing.T) {
	for shell, has := range map[string]string{"bash": "complete -o default -F __start_srctl srctl", "zsh": "#compdef srctl", "fish": "complete -c srctl"} {
		var out, errs bytes.Buffer
		if status := run([]string{"completion", shell}, &out, &errs); status != 0 || errs.Len() > 0 || !strings.Contains(out.String(), has) {
			t.Errorf("%s: exit %d, %s, %.300s", shell, status, errs.String(), out.String())
		}
	}
	var out, errs bytes.Buffer
	if run([]string{"__complete", "delta", "a"}, &out, &errs); !strings.HasPrefix(out.String(), "apply\t") {
		t.Errorf("%s, %s", out.String(), errs.String())
	}
}
