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

const help = `usage: srtest run [-volume DIR] [-datapath DIR] [-fs KIND,...] [-own] [-run REGEXP] [-v] [SCRIPT...]
              run the scenarios through the plugin (needs root); exit 1 if one fails.
              SCRIPT is a scenario of yours, or a directory of them; without any, ours
       srtest list [-own] [-run REGEXP]
              list them
       srtest new NAME
              write a first scenario to NAME.txtar, to be changed
       srtest help [VERB]
              describe the language of scenarios, or one verb of it

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
	c.Datapath = []string{toolstack + "/datapath"}
	flags.Func("datapath", "", func(dir string) error { c.Datapath = []string{dir}; return nil })
	flags.Func("config", "", func(file string) (err error) { c.SR, err = scripts.ReadConfiguration(file); return err })
	flags.StringVar(&kinds, "fs", "btrfs,xfs", "")
	flags.StringVar(&match, "run", "", "")
	flags.BoolVar(&c.Own, "own", false, "")
	flags.BoolVar(&verbose, "v", false, "")
	if err := flags.Parse(args[1:]); err != nil {
		return usage()
	}
	most := map[string]int{"run": flags.NArg(), "new": 1, "help": 1}[args[0]]
	if flags.NArg() > most || args[0] == "new" && flags.NArg() == 0 {
		return usage()
	}
	pattern, err := regexp.Compile(match)
	if err != nil {
		fmt.Fprintln(errs, "srtest: -run:", err)
		return 2
	}
	switch args[0] {
	case "help":
		if flags.NArg() == 0 {
			fmt.Fprint(out, scripts.Reference())
			return 0
		}
		var text string
		if text, err = scripts.Usage(flags.Arg(0)); err == nil {
			fmt.Fprintln(out, text)
		}
	case "new":
		err = create(flags.Arg(0), out)
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
		err = runAll(c, strings.Split(kinds, ","), pattern, flags.Args(), verbose, out)
	default:
		return usage()
	}
	if err != nil {
		fmt.Fprintln(errs, "srtest:", err)
		return 1
	}
	return 0
}

// find picks the scenarios to run: the tester's own, or ours, written to dir.
func find(c scripts.Config, dir string, pattern *regexp.Regexp, own []string) ([]string, error) {
	if len(own) == 0 {
		return c.Select(dir, pattern)
	}
	var files []string
	for _, path := range own {
		st, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		found := []string{path}
		if st.IsDir() {
			if found, err = filepath.Glob(filepath.Join(path, "*.txtar")); err != nil {
				return nil, err
			}
		}
		for _, file := range found {
			if pattern.MatchString(strings.TrimSuffix(filepath.Base(file), ".txtar")) {
				files = append(files, file)
			}
		}
	}
	return files, nil
}

// first is where a tester begins.
const first = `# A disk is as large as was asked for.
# (A comment over a phase is a sentence about behaviour: the headline if it fails.)
sr
call Volume.create '{"sr":"$SR","name":"disk","description":"","size":16777216,"sharable":false}'
get VOL .key
answer .virtual_size 16777216

# What a guest writes to it is there when it is attached again.
plug $VOL
fill $VOL 0 1MiB some-seed
unplug $VOL
sum $VOL
same $VOL

# A disk that is not there is refused by name, and nothing changes.
! call Volume.stat '{"sr":"$SR","key":"11111111-2222-4333-8444-555555555555"}'
refused Volume_does_not_exist 11111111-2222-4333-8444-555555555555

# Nothing is left behind.
call Volume.destroy '{"sr":"$SR","key":"$VOL"}'
leak
`

func create(name string, out io.Writer) error {
	path := strings.TrimSuffix(name, ".txtar") + ".txtar"
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, first)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	fmt.Fprintf(out, "wrote %s; run it with: srtest run %s\n", path, path)
	return nil
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

func runAll(c scripts.Config, kinds []string, pattern *regexp.Regexp, own []string, verbose bool, out io.Writer) error {
	if err := c.Check(); err != nil {
		return err
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
		files, err := find(c, dir, pattern, own)
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return fmt.Errorf("no scenario matches %q", pattern)
		}
		t.run(kind, c, files)
	}
	return t.finish()
}
