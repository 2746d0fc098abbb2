package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// fuzz runs every fuzz target of the module in the current directory, one after the
// other. What is found go test keeps below testdata/fuzz, where it fails from then on.
func fuzz(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	length := flags.Duration("for", 10*time.Minute, "how long each target runs")
	only := flags.String("run", "", "only targets whose package and name match this regular expression")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	chosen, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	all, err := fuzzTargets()
	if err != nil {
		return err
	}
	failed, ran := 0, 0
	for _, x := range all {
		if !chosen.MatchString(x.pkg + " " + x.name) {
			continue
		}
		ran++
		execs, err := x.run(*length)
		verdict := "no finding"
		if err != nil {
			failed++
			verdict = "FAILED\n" + err.Error()
		}
		fmt.Fprintf(out, "%-32s %-20s %12s executions in %v: %s\n", x.pkg, x.name, execs, *length, verdict)
	}
	switch {
	case ran == 0:
		return errors.New("no fuzz target of that name; run this in the repository")
	case failed > 0:
		return fmt.Errorf("%d of %d targets found something", failed, ran)
	}
	return nil
}

// fuzzTarget is one func FuzzName.
type fuzzTarget struct{ pkg, name string }

// fuzzTargets asks the packages. go test lists a package's targets before its name.
func fuzzTargets() (all []fuzzTarget, err error) {
	listed, err := exec.Command("go", "test", "-list", "^Fuzz", "./...").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test -list: %w: %s", err, bytes.TrimSpace(listed))
	}
	var names []string
	for line := range strings.Lines(string(listed)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 1 && strings.HasPrefix(fields[0], "Fuzz"):
			names = append(names, fields[0])
		case len(fields) > 1 && fields[0] == "ok":
			for _, name := range names {
				all = append(all, fuzzTarget{fields[1], name})
			}
			names = nil
		}
	}
	return all, nil
}

var executions = regexp.MustCompile(`execs: (\d+)`)

// run fuzzes in one process: the machine is for everybody.
func (x fuzzTarget) run(length time.Duration) (execs string, err error) {
	out, err := exec.Command("go", "test", x.pkg, "-run", "^$", "-fuzz", "^"+x.name+"$", "-fuzztime", length.String(), "-parallel", "1").CombinedOutput()
	if all := executions.FindAllSubmatch(out, -1); len(all) > 0 {
		execs = string(all[len(all)-1][1])
	}
	if err == nil && (execs == "" || execs == "0") {
		err = errors.New("nothing was run")
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, bytes.TrimSpace(out))
	}
	return execs, err
}
