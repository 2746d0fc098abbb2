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
		"internal/dirfs/lock.go LockFile":                "a deadline, which Go measures on the monotonic clock",
		"internal/dirfs/lock.go Flock":                   "the same",
		"sr/lock.go alone":                               "the same",
		"internal/dirfs/look.go LookLockFor":             "the same",
		"internal/dirfs/lock.go lockOpen":                "the same",
		"internal/loop/attach_linux.go Attach":           "the same",
		"internal/procs/procs.go Describe":               "told to the operator",
		"datapath/lease/lease.go String":                 "told to the operator",
		"internal/dirfs/nfs_linux.go retryReplaced":      "the same",
		"internal/sys/insist.go Insist":                  "the same",
		"internal/source/create.go CreateOnDisk":         "the same",
		"internal/blockdev/look_process_linux.go answer": "the same",
		"internal/program/program.go RunFor":             "the same",
		"internal/plainsr/plainsr.go Make":               "noted in sr.json, for tests",
		"sr/create.go createIn":                          "noted in sr.json and never read again",
		"volume/create.go addStaged":                     "noted in the record; puts those without a number in order, which this one has",
		"volume/converted.go stampAt":                    "compared for being the same",
		"snapshot/snapshot.go derive":                    "noted in the record and never read again",
		"snapshot/snapshot.go CopyOf":                    "the same",
		"datapath/lease/lease.go NewHolder":              "noted in the lease and told to the operator",
		"internal/participant/participant.go ThisHost":   "noted and told to the operator",
		"cmd/internal/plugin/main.go explained":          "logged",
		"cmd/internal/plugin/install.go lockRoot":        "a deadline, as in Flock",
		"datapath/renew.go renew":                        "logged",
		"datapath/server.go startServer":                 "a deadline, as in Flock",
		"datapath/server.go readAll":                     "the same",
		"datapath/server.go awaitEnd":                    "the same",
		"datapath/lastround.go askForLast":               "the same",
		"datapath/mirrors.go MirrorOf":                   "the same",
		"datapath/mirroring.go Tell":                     "how often something is told, by the clock that does not jump",
		"sr/manifest.go identityOf":                      "compared for being the same",
		"internal/nbd/client.go Connect":                 "a deadline, which the runtime keeps by the clock that does not jump",
		"internal/nbd/client.go Close":                   "a deadline, the same",
		"internal/nbd/server.go ServeConn":               "a deadline, the same",
		"sr/manifest.go unlisted":                        "a full filesystem has no room for the list that needs no clock",
	}
	clocks := []string{"Now", "Since", "Until", "ModTime", "Ctim", "Mtim", "Atim", "Btime"}
	found := map[string]bool{}
	inner, err := filepath.Glob("../../internal/*")
	if err != nil || len(inner) == 0 {
		t.Fatalf("no packages in internal: %v", err)
	}
	dirs := []string{"sr", "volume", "snapshot", "snapshot/cbt", "datapath", "datapath/lease", "cmd/internal/plugin", "internal/smapi/serve"}
	for _, dir := range inner {
		dirs = append(dirs, strings.TrimPrefix(dir, "../../"))
	}
	for _, dir := range dirs {
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
