package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Texts of rooms are read by users of every door: only a wire knows the names of its calls.
func TestTextsNameNoCalls(t *testing.T) {
	call := regexp.MustCompile(`\b(SR|Volume|Datapath|Plugin)\.[a-z_]+`)
	texts := 0
	for _, top := range []string{"sr", "volume", "snapshot", "datapath", "internal"} {
		err := filepath.WalkDir(filepath.Join("..", "..", top), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && (d.Name() == "smapi" || d.Name() == "rrd" || d.Name() == "testdata") {
				return fs.SkipDir
			}
			if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
					texts++
					if name := call.FindString(l.Value); name != "" {
						t.Errorf("%s: a text names the call %s", set.Position(l.Pos()), name)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if texts < 1000 {
		t.Errorf("only %d texts were looked at", texts)
	}
}
