package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Methods of the standard library's interfaces: whoever knows those knows them.
var wellKnown = []string{"Error", "Is", "Unwrap", "String", "MarshalJSON", "UnmarshalJSON"}

// Every package says what it is, and every exported name has a comment: what it is or does,
// which errors it gives, and the unit of what is a number.
func TestNamesAreDocumented(t *testing.T) {
	packages := map[string]bool{} // that have a comment, by directory
	files := token.NewFileSet()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name != ".." && strings.HasPrefix(name, ".") || name == "tools" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := filepath.Dir(path)
		packages[dir] = packages[dir] || file.Doc != nil
		for _, name := range undocumented(file) {
			t.Errorf("%s: %s has no comment", files.Position(name.Pos()), name.Name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) < 10 {
		t.Errorf("only %d packages were found", len(packages))
	}
	for dir, documented := range packages {
		if !documented {
			t.Errorf("%s: the package has no comment", dir)
		}
	}
}

// undocumented are a file's exported names that have no comment.
func undocumented(file *ast.File) (names []*ast.Ident) {
	look := func(name *ast.Ident, comments ...*ast.CommentGroup) {
		if name.IsExported() && !slices.ContainsFunc(comments, func(c *ast.CommentGroup) bool { return c.Text() != "" }) {
			names = append(names, name)
		}
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil || exportedReceiver(d.Recv.List[0].Type) && !slices.Contains(wellKnown, d.Name.Name) {
				look(d.Name, d.Doc)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					look(s.Name, d.Doc, s.Doc, s.Comment)
				case *ast.ValueSpec:
					for _, name := range s.Names {
						look(name, d.Doc, s.Doc, s.Comment)
					}
				}
			}
		}
	}
	return names
}

// exportedReceiver says whether a method's type can be named outside of its package.
func exportedReceiver(of ast.Expr) bool {
	switch of := of.(type) {
	case *ast.StarExpr:
		return exportedReceiver(of.X)
	case *ast.IndexExpr: // of a generic type
		return exportedReceiver(of.X)
	case *ast.IndexListExpr:
		return exportedReceiver(of.X)
	case *ast.Ident:
		return of.IsExported()
	}
	return true
}

// What TestNamesAreDocumented looks for, it finds.
func TestUndocumented(t *testing.T) {
	const source = `package p
func F() {}
// G has one.
func G() {}
func hidden() {}
type T struct{}
func (*T) M() {}
func (T) String() string { return "" }
func (l list[K]) Exported() {}
type list[K any] []K
const (
	A = 1 // has one
	B = 2
)
// A group has one.
var (
	C, D int
)
var E int
//go:generate nothing
func H() {}
`
	file, err := parser.ParseFile(token.NewFileSet(), "p.go", source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, name := range undocumented(file) {
		got = append(got, name.Name)
	}
	if want := []string{"F", "T", "M", "B", "E", "H"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

var (
	link   = regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)
	source = regexp.MustCompile("`([a-z0-9_./-]+/[a-z0-9_.-]+\\.(?:go|txtar|mod|json))`")
)

// What the documents link to is there, and so are the source files that they name.
func TestDocumentsNameWhatIsThere(t *testing.T) {
	var pages []string
	for _, pattern := range []string{"*.md", "docs/*.md", "scripts/*.md"} {
		found, err := filepath.Glob("../../" + pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		pages = append(pages, found...)
	}
	there := func(page, path string) {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s: %v", page, err)
		}
	}
	named := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(m[1], "://") {
				there(page, filepath.Join(filepath.Dir(page), m[1]))
				named++
			}
		}
		for _, m := range source.FindAllStringSubmatch(string(text), -1) {
			if strings.HasPrefix(m[1], "/") || !strings.Contains("cmd internal sr volume snapshot datapath scripts testdata tools", strings.SplitN(m[1], "/", 2)[0]) {
				continue // a file of a host, or in an SR
			}
			there(page, filepath.Join("../..", m[1]))
			named++
		}
	}
	if named < 50 {
		t.Errorf("only %d files are named", named)
	}
}
