package tests

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
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
	}{{"", "", false}, {"", "all", true}, {"TestSomething", "", true}, {"", "some", false}} {
		flag.Set("test.run", c.run)
		t.Setenv("REFLINKSR_TESTS", c.env)
		if got := All(); got != c.want {
			t.Errorf("-run %q, REFLINKSR_TESTS=%q: %v", c.run, c.env, got)
		}
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
