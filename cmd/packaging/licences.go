package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// licences writes those of everything that is linked into the programs: most want to be with the binaries.
func licences(to string) error {
	list := exec.Command("go", append([]string{"list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}"}, shipped...)...)
	modules, err := list.Output()
	if err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	parts := strings.Split(strings.TrimSpace(string(modules)), "\n")
	slices.Sort(parts)
	parts = append([]string{"reflinksr\t.", "Go's runtime and standard library\t" + strings.TrimSpace(string(goroot))}, slices.Compact(parts)...)
	var b bytes.Buffer
	for _, part := range parts {
		name, dir, _ := strings.Cut(part, "\t")
		texts, err := licencesIn(dir)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(&b, "==== %s ====\n\n%s\n\n", name, texts)
	}
	return os.WriteFile(to, b.Bytes(), 0o644)
}

// licencesIn reads a module's licence, and the notices that go with it.
func licencesIn(dir string) ([]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var texts [][]byte
	for _, e := range entries {
		switch name, _, _ := strings.Cut(strings.ToUpper(e.Name()), "."); name {
		case "LICENSE", "LICENCE", "COPYING", "NOTICE":
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			texts = append(texts, bytes.TrimSpace(text))
		}
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("there is no licence in %s", dir)
	}
	return bytes.Join(texts, []byte("\n\n")), nil
}
