package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"reflinksr/scripts/plugindir"
	"reflinksr/scripts/recording"
)

// defaultLog is where the calls of wrapped plugins go.
const defaultLog = "/var/log/srtest.jsonl"

const (
	recordUsage = "usage: srtest record [-log FILE] -- PROGRAM [ARG...]      (" + defaultLog + ")\n"
	wrapUsage   = "usage: srtest wrap [-log FILE] DIR      (" + defaultLog + ")\n"
	unwrapUsage = "usage: srtest unwrap DIR\n"
	replayUsage = "usage: srtest replay [-name NAME] FILE\n"
	chartUsage  = "usage: srtest chart [-n N] [-svg FILE] FILE\n"
)

// record makes one call and writes down what was said.
func record(args []string, in io.Reader, out, errs io.Writer) int {
	flags := flag.NewFlagSet("record", flag.ContinueOnError)
	log := flags.String("log", defaultLog, "")
	rest, ok := parse(flags, args, false)
	if !ok || len(rest) == 0 {
		fmt.Fprint(errs, recordUsage)
		return 2
	}
	path, err := program(rest[0])
	if err == nil {
		c := recording.Command{Path: path, Args: rest[1:], Log: *log, In: in, Out: out, Err: errs}
		var status int
		if status, err = c.Run(); err == nil {
			return status
		}
	}
	fmt.Fprintln(errs, "srtest: record:", err)
	return recording.StartStatus(err)
}

// program finds what to run, also a call that is named by the directory above its plugin's.
func program(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil || !strings.Contains(name, "/") {
		return path, err
	}
	if dir, e := plugindir.One(plugindir.Any, filepath.Dir(name), ""); e == nil {
		if path, e := exec.LookPath(filepath.Join(dir, filepath.Base(name))); e == nil {
			return path, nil
		}
	}
	return "", err
}

// wrap puts the recorder in front of a plugin's directory.
func wrap(args []string, out, errs io.Writer) int {
	flags := flag.NewFlagSet("wrap", flag.ContinueOnError)
	log := flags.String("log", defaultLog, "")
	rest, ok := parse(flags, args, true)
	if !ok || len(rest) != 1 {
		fmt.Fprint(errs, wrapUsage)
		return 2
	}
	dir, err := plugindir.One(plugindir.Any, rest[0], "")
	self := ""
	if err == nil {
		self, err = os.Executable()
	}
	if err == nil {
		err = recording.Wrap(dir, *log, self)
	}
	if err != nil {
		fmt.Fprintln(errs, "srtest: wrap:", err)
		return 1
	}
	fmt.Fprintf(out, "calls of %s are recorded in %s\n", filepath.Base(dir), *log)
	return 0
}

// unwrap takes it away.
func unwrap(args []string, out, errs io.Writer) int {
	rest, ok := parse(flag.NewFlagSet("unwrap", flag.ContinueOnError), args, true)
	if !ok || len(rest) != 1 {
		fmt.Fprint(errs, unwrapUsage)
		return 2
	}
	// Where directories cannot be exchanged, a crash may have left none by this name.
	dir := rest[0]
	if _, err := os.Stat(dir); err == nil {
		if dir, err = plugindir.One(plugindir.Any, dir, ""); err != nil {
			fmt.Fprintln(errs, "srtest: unwrap:", err)
			return 1
		}
	}
	left, err := recording.Unwrap(dir)
	if err != nil {
		fmt.Fprintln(errs, "srtest: unwrap:", err)
		return 1
	}
	fmt.Fprintf(out, "calls of %s are not recorded any more\n", filepath.Base(dir))
	if left != "" {
		fmt.Fprintf(out, "calls are still in progress; %s is for them, remove it afterwards\n", left)
	}
	return 0
}

// replay prints a draft of a scenario.
func replay(args []string, out, errs io.Writer) int {
	flags := flag.NewFlagSet("replay", flag.ContinueOnError)
	name := flags.String("name", "", "")
	rest, ok := parse(flags, args, true)
	if !ok || len(rest) != 1 {
		fmt.Fprint(errs, replayUsage)
		return 2
	}
	calls, ok := read("replay", rest[0], errs)
	if !ok {
		return 1
	}
	if *name == "" {
		*name = strings.TrimSuffix(filepath.Base(rest[0]), filepath.Ext(rest[0]))
	}
	return written("replay", out, errs, recording.Draft(*name, calls))
}

// chart draws the last calls.
func chart(args []string, out, errs io.Writer) int {
	flags := flag.NewFlagSet("chart", flag.ContinueOnError)
	n := flags.Int("n", 40, "")
	svg := flags.String("svg", "", "")
	rest, ok := parse(flags, args, true)
	if !ok || len(rest) != 1 || *n < 1 {
		fmt.Fprint(errs, chartUsage)
		return 2
	}
	calls, ok := read("chart", rest[0], errs)
	if !ok {
		return 1
	}
	if *svg == "" {
		return written("chart", out, errs, recording.Chart(calls, *n))
	}
	if err := os.WriteFile(*svg, []byte(recording.SVG(calls, *n)), 0o600); err != nil {
		fmt.Fprintln(errs, "srtest: chart:", err)
		return 1
	}
	return 0
}

// parse parses flags, also after the first argument if mixed says so.
func parse(flags *flag.FlagSet, args []string, mixed bool) (rest []string, ok bool) {
	flags.SetOutput(io.Discard)
	for {
		if flags.Parse(args) != nil {
			return nil, false
		}
		if args = flags.Args(); !mixed || len(args) == 0 {
			return append(rest, args...), true
		}
		rest, args = append(rest, args[0]), args[1:]
	}
}

// read reads a recording and reports what is damaged; ok is false if nothing is left.
func read(verb, path string, errs io.Writer) (calls []recording.Call, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		fmt.Fprintf(errs, "srtest: %s: %v\n", verb, err)
		return nil, false
	}
	defer f.Close()
	calls, damaged := recording.Read(f)
	for _, err := range damaged {
		fmt.Fprintf(errs, "srtest: %s: %s: %v\n", verb, path, err)
	}
	if len(calls) == 0 {
		fmt.Fprintf(errs, "srtest: %s: %s holds no call that can be used\n", verb, path)
	}
	return calls, len(calls) > 0
}

func written(verb string, out, errs io.Writer, text string) int {
	if _, err := io.WriteString(out, text); err != nil {
		fmt.Fprintf(errs, "srtest: %s: %v\n", verb, err)
		return 1
	}
	return 0
}
