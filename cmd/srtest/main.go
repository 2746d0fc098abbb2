// Command srtest runs scenario scripts against a SMAPIv3 plugin, this project's or
// any other; compares plugins; and records what a live one is asked.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"strings"
	"time"

	"reflinksr/cmd/internal/version"
	"reflinksr/scripts"
	"reflinksr/scripts/recording"
	"reflinksr/scripts/sandbox"
	"reflinksr/scripts/scratch"
)

func main() {
	if status, ok := recording.AsWrapper(); ok {
		os.Exit(status)
	}
	sandbox.Hook()
	if len(os.Args) > 1 && commands[os.Args[1]].root {
		if status, again := scratch.IsolateInRoom(); again {
			os.Exit(status)
		}
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

const help = `usage: srtest run [PLUGIN] [-fs KIND,...] [-own] [-run REGEXP] [-j N] [-timeout T] [-limit T] [-json] [-junit FILE] [-v] [SCRIPT...]
              run the scenarios through the plugin (needs root); exit 1 if one fails.
              SCRIPT is a scenario of yours, or a directory of them, in folders or not;
              without any, ours
       srtest report [PLUGIN]... [-fs KIND,...] [-run REGEXP] [-j N] [-timeout T] [-limit T] [-html FILE] [SCRIPT...]
              run them and tell, call by call, what works, is refused properly, is not
              offered, or wrong; several plugins side by side; exit 1 if something is wrong
       srtest shell [PLUGIN] [-fs KIND] [-own] [-timeout T]
              a filesystem, an SR on it, and the verbs, to try by hand (needs root)
       srtest list [-own] [-run REGEXP]
              list our scenarios
       srtest new NAME
              write a first scenario to NAME.txtar, to be changed
       srtest vet [-json] SCRIPT...
              look for mistakes in scenarios without running them, as anybody: verbs, calls,
              requests, variables; exit 1 if there is one
       srtest help [VERB]
              describe the language of scenarios, or one verb of it
       srtest version
              tell which build this is
       srtest wrap [-log FILE] DIR, srtest unwrap DIR
              put a recorder in front of a plugin's directory; take it away again
       srtest record [-log FILE] -- PROGRAM ARG...
              run one call and record it
       srtest replay [-name NAME] FILE
              turn a recording into the draft of a scenario
       srtest chart [-n N] [-svg FILE] FILE
              draw the last calls of a recording

PLUGIN is
  -volume DIR     the volume plugin's directory, or the one above it
  -datapath DIR   a datapath plugin's directory, or one that holds several; may be
                  repeated; by default the "datapath" beside "volume"
  -config FILE    how an SR is configured: a JSON object of strings, by default
                  {"path": "$SR_PATH"}; also $MNT and $SR_UUID are replaced
With several plugins, -datapath and -config are for the -volume that they come after,
or for all if they come before the first.

  -fs KIND,...    filesystems to run on (btrfs,xfs)
  -opennebula DIR DIR has drivers of OpenNebula, as remotes/ has (datastore/NAME and
                  tm/NAME): their scenarios, and no plugin
  -hosts A,B      with it: two hosts that see this one's filesystems at their places, where
                  oneadmin gets by ssh: also the scenarios of several hosts
  -smapiv1 DIR    DIR has drivers of SMAPIv1 (ReflinkSR, FileSR …): their scenarios, and
                  no plugin
  -own            it is reflinksr: also the scenarios that look inside its SRs
  -run REGEXP     only scenarios whose name matches; one with a slash is held against
                  FOLDER/NAME, as list prints them: -run ^snapshot/
  -j N            so many at a time (the number of processors)
  -timeout T      kill a call that takes longer (60s)
  -limit T        stop a scenario that takes longer (10m)
  -json           one JSON object a line: each scenario's result, then the numbers
  -junit FILE     the results also as JUnit's XML, for continuous integration
  -v              print what passed scenarios printed
  -html FILE      the report as one self-contained page
`

// options are the flags of all commands that take scenarios.
type options struct {
	targets
	kinds      string
	match      *regexp.Regexp
	own        bool
	openNebula string // a directory of drivers
	hosts      []string
	smapiv1    string // the same
	jobs       int
	timeout    time.Duration
	limit      time.Duration
	json       bool
	verbose    bool
	html       string
	junit      string
	scripts    []string
	total      int // scenarios to run
	out, errs  io.Writer
}

// commands say which flags each command has, besides those of a PLUGIN.
var commands = map[string]struct {
	flags string
	most  int // arguments; -1 for any number
	run   func(o *options) error
	root  bool
}{
	"run":    {"volume datapath config opennebula hosts smapiv1 fs own run j timeout limit json junit v", -1, (*options).runScenarios, true},
	"report": {"volume datapath config fs own run j timeout limit html", -1, (*options).report, true},
	"shell":  {"volume datapath config fs own timeout", 0, (*options).shell, true},
	"list":   {"opennebula smapiv1 own run", 0, (*options).list, false},
	"new":    {"", 1, (*options).create, false},
	"vet":    {"json", -1, (*options).vet, false},
	"help":   {"", 1, (*options).describe, false},
}

func run(args []string, out, errs io.Writer) int {
	usage := func() int { fmt.Fprint(errs, help); return 2 }
	if len(args) == 0 || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		return usage()
	}
	switch args[0] {
	case "version":
		fmt.Fprintln(out, "srtest", version.String())
		return 0
	case "record":
		return record(args[1:], os.Stdin, out, errs)
	case "wrap":
		return wrap(args[1:], out, errs)
	case "unwrap":
		return unwrap(args[1:], out, errs)
	case "replay":
		return replay(args[1:], out, errs)
	case "chart":
		return chart(args[1:], out, errs)
	}
	command, ok := commands[args[0]]
	if !ok {
		fmt.Fprintf(errs, "srtest: there is no command %q; srtest alone lists them\n", args[0])
		return 2
	}
	o := &options{out: out, errs: errs, match: regexp.MustCompile("")}
	flags := flag.NewFlagSet("srtest "+args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	o.targets.define(flags)
	flags.StringVar(&o.kinds, "fs", "btrfs,xfs", "")
	flags.StringVar(&o.openNebula, "opennebula", "", "")
	flags.Func("hosts", "", func(text string) error {
		if o.hosts = strings.Split(text, ","); len(o.hosts) != 2 {
			return errors.New("it takes two names: A,B")
		}
		return nil
	})
	flags.StringVar(&o.smapiv1, "smapiv1", "", "")
	flags.BoolVar(&o.own, "own", false, "")
	flags.Func("run", "", func(text string) (err error) { o.match, err = regexp.Compile(text); return err })
	flags.IntVar(&o.jobs, "j", runtime.NumCPU(), "")
	flags.DurationVar(&o.timeout, "timeout", time.Minute, "")
	flags.DurationVar(&o.limit, "limit", 10*time.Minute, "")
	flags.BoolVar(&o.json, "json", false, "")
	flags.BoolVar(&o.verbose, "v", false, "")
	flags.StringVar(&o.html, "html", "", "")
	flags.StringVar(&o.junit, "junit", "", "")
	if err := flags.Parse(args[1:]); err == flag.ErrHelp {
		return usage()
	} else if err != nil {
		fmt.Fprintf(errs, "srtest %s: %v\n", args[0], err)
		return 2
	}
	o.scripts = flags.Args()
	stray := ""
	flags.Visit(func(f *flag.Flag) {
		if !strings.Contains(" "+command.flags+" ", " "+f.Name+" ") {
			stray = f.Name
		}
	})
	switch {
	case stray != "":
		fmt.Fprintf(errs, "srtest %s: there is no -%s for it\n", args[0], stray)
		return 2
	case command.most >= 0 && len(o.scripts) > command.most, (args[0] == "new" || args[0] == "vet") && len(o.scripts) == 0, o.jobs < 1, o.timeout <= 0, o.limit <= 0:
		return usage()
	case args[0] != "report" && len(o.each) > 1:
		fmt.Fprintf(errs, "srtest %s: one plugin at a time; srtest report compares several\n", args[0])
		return 2
	case command.root && os.Getuid() != 0:
		fmt.Fprintln(errs, "srtest: scenarios mount filesystems and attach devices, which needs root: sudo")
		return 1
	}
	if err := command.run(o); err != nil {
		fmt.Fprintln(errs, "srtest:", err)
		return 1
	}
	return 0
}

// describe is srtest help.
func (o *options) describe() error {
	if len(o.scripts) == 0 {
		fmt.Fprint(o.out, scripts.Reference())
		return nil
	}
	text, err := scripts.Usage(o.scripts[0])
	if err == nil {
		fmt.Fprintln(o.out, text)
	}
	return err
}
