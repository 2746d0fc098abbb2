package mutant

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"reflinksr/scripts/tests"
)

// Every mutant still fits the sources, and says how it is found.
func TestMutantsFit(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	all, err := Read(root, "", func(Mutant) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 12 {
		t.Errorf("%d mutants", len(all))
	}
	for _, m := range all {
		dir := t.TempDir()
		if _, err := m.Overlay(root, dir); err != nil {
			t.Error(err)
		}
		if len(m.Finder) == 3 && m.Finder[0] == "test" && !declares(t, filepath.Join(root, m.Finder[1]), m.Finder[2]) {
			t.Errorf("mutant %s: %s has no %s: a test that is not there finds nothing", m.Name, m.Finder[1], m.Finder[2])
		}
		for _, p := range m.Lab {
			// The scenario itself may be what is changed.
			scenario := filepath.Join(root, "cmd/srlab", p.Scenario+".txtar")
			if changed := filepath.Join(dir, "cmd_srlab_"+strings.ReplaceAll(p.Scenario, "/", "_")+".txtar"); exists(changed) {
				scenario = changed
			}
			a, err := txtar.ParseFile(scenario)
			if err != nil || !slices.Contains(strings.Split(string(a.Comment), "\n"), p.Line) {
				t.Errorf("mutant %s: the line %q is not in %s, %v", m.Name, p.Line, p.Scenario, err)
			}
		}
	}
}

// declares says whether the tests in a directory have one of that name, or the scenario of that name.
func declares(t *testing.T, dir, name string) bool {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	function, below, _ := strings.Cut(name, "/")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "func "+function+"(t *testing.T)") {
			if below == "" {
				return true
			}
			scenario := filepath.Base(below) + ".txtar"
			for _, place := range []string{filepath.Join(dir, "testdata", scenario), filepath.Join("../../../scripts/*", scenario)} {
				if found, err := filepath.Glob(place); err == nil && len(found) > 0 {
					return true
				}
			}
		}
	}
	return false
}

// Every mutant can be built: one that cannot is found by nobody, and nobody misses it. In parts, a quarter.
func TestMutantsBuild(t *testing.T) {
	tests.Long(t)
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	all, err := Read(root, "", func(Mutant) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range tests.Due(all, 4) {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			overlay, err := m.Overlay(root, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			packages := map[string]bool{}
			for _, r := range m.replace {
				if strings.HasSuffix(r.file, ".go") {
					packages["./"+filepath.Dir(r.file)] = true
				}
			}
			if len(packages) == 0 {
				return // of the lab alone
			}
			build := exec.CommandContext(t.Context(), "go", append([]string{"build", "-o", os.DevNull, "-overlay", overlay}, slices.Sorted(maps.Keys(packages))...)...)
			build.Dir = root
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if text, err := build.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, text)
			}
		})
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func TestParse(t *testing.T) {
	m, err := Parse("m", []byte("It is wrong.\nfinder: kill,term\ncalls: ^x$\non: xfs\nlab: xen/a_b: on dom0 exec x: y\n-- a.go: old --\nx\n-- a.go: new --\n"))
	if err != nil || m.About != "It is wrong." || m.Finder[0] != "kill,term" || m.Calls != "^x$" || len(m.replace) != 1 || m.replace[0] != (replacement{"a.go", "x\n", ""}) {
		t.Errorf("%+v, %v", m, err)
	}
	if !slices.Equal(m.Lab, []Play{{"xen/a_b", "on dom0 exec x: y"}}) {
		t.Errorf("%+v", m.Lab)
	}
	for _, bad := range []string{
		"", "It is wrong.\nfinder: kill\non: xfs\n", "It is wrong.\nfinder: kill\n-- a.go: old --\n-- a.go: new --\n",
		"It is wrong.\non: xfs\n-- a.go: old --\nx\n-- a.go: new --\n",
		"It is wrong.\nlab: xen: x\non: xfs\n-- a.go: old --\nx\n-- a.go: new --\n", "It is wrong.\nlab: xen/a\non: xfs\n-- a.go: old --\nx\n-- a.go: new --\n",
		"It is wrong.\nfinder: kill\non: xfs\n-- a.go: old --\nx\n-- b.go: new --\n", "It is wrong.\nfinder: kill\non: xfs\n-- a.go: old --\nx\n",
	} {
		if m, err := Parse("m", []byte(bad)); err == nil {
			t.Errorf("%q is taken for %+v", bad, m)
		}
	}
}

// A mutant whose text is not there any more is not sown in silence.
func TestMutantThatDoesNotFit(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.go"), []byte("x x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, old := range []string{"y", "x"} {
		m := Mutant{Name: "m", replace: []replacement{{"a.go", old, ""}}}
		if _, err := m.Overlay(root, t.TempDir()); err == nil {
			t.Errorf("%q was replaced", old)
		}
	}
}
