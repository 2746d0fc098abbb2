// Command srtest runs scenario scripts against a SMAPIv3 plugin, this project's or
// any other. Its answer is TAP, version 14 (testanything.org).
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"reflinksr/scripts"
	"reflinksr/scripts/oldkernel"
	"reflinksr/scripts/scratch"
)

func main() {
	oldkernel.Hook()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

const help = `usage: srtest run [-volume DIR] [-datapath DIR] [-fs KIND,...] [-own] [-run REGEXP] [-v]
              run the scenarios through the plugin (needs root); exit 1 if one fails
       srtest list [-own] [-run REGEXP]
              list them
       srtest help
              describe the language of scenarios

  -volume DIR     the volume plugin's directory
  -datapath DIR   the directory that holds the datapath plugins' directories
  -fs KIND,...    filesystems to run on (btrfs,xfs)
  -own            also the scenarios that look inside an SR of reflinksr
  -run REGEXP     only scenarios whose name matches
  -v              print what passed scenarios printed
`

// toolstack is where plugins are on a host of the toolstack.
const toolstack = "/usr/libexec/xapi-storage-script"

func run(args []string, out, errs io.Writer) int {
	usage := func() int { fmt.Fprint(errs, help); return 2 }
	if len(args) == 0 {
		return usage()
	}
	var c scripts.Config
	var match, kinds string
	var verbose bool
	flags := flag.NewFlagSet("srtest "+args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&c.Volume, "volume", toolstack+"/volume/org.xen.xapi.storage.reflink", "")
	flags.StringVar(&c.Datapath, "datapath", toolstack+"/datapath", "")
	flags.StringVar(&kinds, "fs", "btrfs,xfs", "")
	flags.StringVar(&match, "run", "", "")
	flags.BoolVar(&c.Own, "own", false, "")
	flags.BoolVar(&verbose, "v", false, "")
	if err := flags.Parse(args[1:]); err != nil || flags.NArg() > 0 {
		return usage()
	}
	pattern, err := regexp.Compile(match)
	if err != nil {
		fmt.Fprintln(errs, "srtest: -run:", err)
		return 2
	}
	switch args[0] {
	case "help":
		fmt.Fprint(out, scripts.Reference())
		return 0
	case "list":
		err = list(c, pattern, out)
	case "run":
		if os.Getuid() != 0 {
			fmt.Fprintln(errs, "srtest: scenarios mount filesystems and attach devices, which needs root: sudo")
			return 1
		}
		if status, again := scratch.Isolate(); again {
			return status
		}
		err = runAll(c, strings.Split(kinds, ","), pattern, verbose, out)
	default:
		return usage()
	}
	if err != nil {
		fmt.Fprintln(errs, "srtest:", err)
		return 1
	}
	return 0
}

func list(c scripts.Config, pattern *regexp.Regexp, out io.Writer) error {
	dir, err := os.MkdirTemp("", "srtest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	files, err := c.Select(dir, pattern)
	for _, file := range files {
		fmt.Fprintln(out, strings.TrimSuffix(filepath.Base(file), ".txtar"))
	}
	return err
}

var errFailed = errors.New("scenarios failed")

func runAll(c scripts.Config, kinds []string, pattern *regexp.Regexp, verbose bool, out io.Writer) error {
	for _, dir := range []string{c.Volume, c.Datapath} {
		if _, err := os.Stat(dir); err != nil {
			return fmt.Errorf("no plugin there: %w", err)
		}
	}
	dir, err := os.MkdirTemp("", "srtest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t := newTAP(out, verbose)
	for _, kind := range kinds {
		if err := scratch.Available(kind); err != nil {
			return err
		}
		c.FS = kind
		files, err := c.Select(dir, pattern)
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return fmt.Errorf("no scenario matches %q", pattern)
		}
		t.run(kind, c.Params(files))
	}
	return t.finish()
}
