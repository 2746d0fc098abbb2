package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A comment that begins with a name begins with that of what it is over: who renames or moves something
// takes its comment along. Those that begin with a plain sentence may.
func TestCommentsBeginWithTheName(t *testing.T) {
	files, seen := token.NewFileSet(), 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && (name != ".." && strings.HasPrefix(name, ".") || name == "tools") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		seen++
		for _, m := range misnamed(file) {
			t.Errorf("%s: the comment over %s begins with %s", files.Position(m.at), m.name, m.begins)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 100 {
		t.Errorf("only %d files were found", seen)
	}
}

type misnaming struct {
	at           token.Pos
	name, begins string
}

// identifier is a first word that begins no sentence: one in lower case, or with a capital inside.
var identifier = regexp.MustCompile(`^([a-z]\w*|[A-Z]\w*[a-z]\w*[A-Z]\w*)$`)

// misnamed are a file's declarations over which the comment begins with a name that is not theirs.
func misnamed(file *ast.File) (found []misnaming) {
	look := func(doc *ast.CommentGroup, names ...*ast.Ident) {
		first, _, _ := strings.Cut(strings.TrimSpace(doc.Text()), " ")
		first = strings.TrimRight(strings.SplitN(first, "\n", 2)[0], ",:;.")
		if first != "btrfs" && identifier.MatchString(first) && !slices.ContainsFunc(names, func(n *ast.Ident) bool { return n.Name == first }) {
			found = append(found, misnaming{doc.Pos(), names[0].Name, first})
		}
	}
	of := func(spec ast.Spec) (*ast.CommentGroup, []*ast.Ident) {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			return s.Doc, []*ast.Ident{s.Name}
		case *ast.ValueSpec:
			return s.Doc, s.Names
		}
		return nil, nil
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			look(d.Doc, d.Name)
		case *ast.GenDecl:
			var all []*ast.Ident
			for _, spec := range d.Specs {
				doc, names := of(spec)
				if all = append(all, names...); len(names) > 0 {
					look(doc, names...)
				}
			}
			if len(all) > 0 {
				look(d.Doc, all...)
			}
		}
	}
	return found
}

// What TestCommentsBeginWithTheName looks for, it finds.
func TestMisnamed(t *testing.T) {
	const source = `package p
// f is named.
func f() {}
// g was its name.
func h() {}
// OldName was its name.
func NewName() {}
// A sentence is none.
func i() {}
// XFS is no name.
func j() {}
// btrfs begins sentences so.
func k() {}
// two are
var two, three int
// three were
var (
	// six is not its name.
	four int
	// Five is.
	Five int
)
`
	file, err := parser.ParseFile(token.NewFileSet(), "p.go", source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range misnamed(file) {
		got = append(got, m.name+" "+m.begins)
	}
	if want := []string{"h g", "NewName OldName", "four six", "four three"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
