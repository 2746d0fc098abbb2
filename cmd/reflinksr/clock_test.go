package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// No call decides anything by the clock on the wall or by times on files: they jump. What
// looks at them is listed here, with what for; all else must do without.
func TestClockDecidesNothing(t *testing.T) {
	known := map[string]string{
		"sr/lock.go lockFile":                         "a deadline, which Go measures on the monotonic clock",
		"sr/lock.go flock":                            "the same",
		"sr/sr.go alone":                              "the same",
		"sr/inspect.go lookLock":                      "the same",
		"sr/destroy.go lockSelf":                      "the same",
		"cmd/internal/plugin/diagnostics.go diagnose": "the same",
		"datapath/loop/loop_linux.go Attach":          "the same",
		"sr/lock.go describe":                         "told to the operator",
		"volume/lease.go String":                      "told to the operator",
		"sr/nfs_linux.go Patiently":                   "the same",
		"sr/mount_linux.go insist":                    "the same",
		"sr/device.go createOnDisk":                   "the same",
		"sr/look_linux.go lookElsewhere":              "the same",
		"sr/program.go runProgramFor":                 "the same",
		"sr/create.go create":                         "noted in sr.json and never read again",
		"volume/create.go Add":                        "noted in the record; puts those without a number in order, which this one has",
		"snapshot/snapshot.go derive":                 "noted in the record and never read again",
		"volume/lease.go NewHolder":                   "noted in the lease and told to the operator",
		"sr/hosts.go enlist":                          "noted and told to the operator",
		"cmd/internal/plugin/main.go explained":       "logged",
		"sr/doom.go identify":                         "compared for being the same",
		"sr/doom.go unlisted":                         "a full filesystem has no room for the list that needs no clock",
	}
	clocks := []string{"Now", "Since", "Until", "ModTime", "Ctim", "Mtim", "Atim", "Btime"}
	found := map[string]bool{}
	for _, dir := range []string{"sr", "volume", "snapshot", "datapath", "datapath/loop", "cmd/internal/plugin", "internal/smapi", "internal/smapi/serve"} {
		files, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files in %s: %v", dir, err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range file.Decls {
				f, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				ast.Inspect(f, func(n ast.Node) bool {
					if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains(clocks, s.Sel.Name) {
						found[dir+"/"+filepath.Base(path)+" "+f.Name.Name] = true
					}
					return true
				})
			}
		}
	}
	for place := range found {
		if known[place] == "" {
			t.Errorf("%s looks at a clock: may it jump?", place)
		}
	}
	for place := range known {
		if !found[place] {
			t.Errorf("%s looks at no clock any more: take it off the list", place)
		}
	}
}
