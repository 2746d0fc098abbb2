package tests

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A line is told to whoever reads the errors of go test, though the package passes and go test
// shows nothing of what it prints.
func TestTell(t *testing.T) {
	if os.Getenv("REFLINKSR_TELL") != "" {
		Tell("%s tells", "it")
		os.Stdout.WriteString("printed\n")
		return
	}
	command, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want bool
	}{
		"of several packages": {[]string{"test", "-count=1", "-run=^TestTell$", ".", "../../cmd/internal/version"}, true},
		"of one":              {[]string{"test", "-count=1", "-run=^TestTell$", "."}, true},
	} {
		cmd := exec.Command(command, c.args...)
		cmd.Env = append(os.Environ(), "REFLINKSR_TELL=1")
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(string(out), "reflinksr/scripts/tests: it tells\n") != c.want {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if name == "of several packages" && strings.Contains(string(out), "printed") {
			t.Errorf("go test shows what passed packages print: then Tell is not needed any more\n%s", out)
		}
	}
	// A file it leaves to go test.
	file := filepath.Join(t.TempDir(), "errors")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(command, "test", "-count=1", "-run=^TestTell$", ".")
	cmd.Env, cmd.Stderr = append(os.Environ(), "REFLINKSR_TELL=1"), f
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if told, err := os.ReadFile(file); err != nil || len(told) > 0 {
		t.Errorf("%q, %v", told, err)
	}
}

// All run when that is said, or when somebody asked for tests by name.
func TestAll(t *testing.T) {
	was := flag.Lookup("test.run").Value.String()
	defer flag.Set("test.run", was)
	for _, c := range []struct {
		run, env string
		want     bool
	}{{"", "", false}, {"", "all", true}, {"TestSomething", "", true}, {"", "some", false}, {"", "7", true}, {"", "0", true}, {"", "-1", false}} {
		flag.Set("test.run", c.run)
		t.Setenv("REFLINKSR_TESTS", c.env)
		if got := All(); got != c.want {
			t.Errorf("-run %q, REFLINKSR_TESTS=%q: %v", c.run, c.env, got)
		}
	}
}

// In parts each runs on one filesystem, on the other with the next number, and after n numbers every
// one has been; the whole is all on both.
func TestParts(t *testing.T) {
	was := flag.Lookup("test.run").Value.String()
	defer flag.Set("test.run", was)
	flag.Set("test.run", "")
	of := []int{0, 1, 2, 3, 4, 5, 6}
	for _, n := range []int{6, 7} {
		t.Setenv("REFLINKSR_TESTS", strconv.Itoa(n))
		if got := [][]int{Turn(of, n%2), Turn(of, (n+1)%2)}; !slices.Equal(got[0], []int{0, 2, 4, 6}) || !slices.Equal(got[1], []int{1, 3, 5}) {
			t.Errorf("number %d: %v", n, got)
		}
	}
	var together []int
	for n := range 3 {
		t.Setenv("REFLINKSR_TESTS", strconv.Itoa(300+n))
		if k, parts := Part(3); k != n+1 || parts != 3 {
			t.Errorf("number %d: part %d of %d", 300+n, k, parts)
		}
		together = append(together, Due(of, 3)...)
	}
	if slices.Sort(together); !slices.Equal(together, of) {
		t.Errorf("three numbers have %v", together)
	}
	t.Setenv("REFLINKSR_TESTS", "all")
	if !slices.Equal(Due(of, 3), of) || !slices.Equal(Turn(of, 0), of) || !slices.Equal(Turn(of, 1), of) {
		t.Errorf("the whole: %v, %v, %v", Due(of, 3), Turn(of, 0), Turn(of, 1))
	}
}

// The context ends before go test does, and says why.
func TestContext(t *testing.T) {
	ctx := Context(t)
	end, limited := ctx.Deadline()
	last, any := t.Deadline()
	if limited != any || any && last.Sub(end) < time.Until(last)/11-time.Second && last.Sub(end) < time.Minute {
		t.Errorf("it ends at %v, go test at %v", end, last)
	}
	if context.Cause(ctx) != nil {
		t.Error(context.Cause(ctx))
	}
}
