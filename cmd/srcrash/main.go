// Command srcrash finds out whether anything can be lost: it interrupts, fails and
// overloads the plugin in every way that can be told apart, on real filesystems,
// and judges what is left.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"reflinksr/cmd/srcrash/internal/calls"
	"reflinksr/cmd/srcrash/internal/hammer"
	"reflinksr/cmd/srcrash/internal/load"
	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/cmd/srcrash/internal/trace"
	"reflinksr/scripts/scratch"
)

// command is one subcommand.
type command struct {
	name, args, about string
	run               func(args []string, out io.Writer) error
}

var commands = []command{
	{"sweep", "[-fs KIND,...] [-modes MODE,...] [-run REGEXP] [-skip REGEXP] [-every K/N] [-part K/N] [-j N] [-json FILE] [-keep DIR] [-dir DIR] [-volume DIR -datapath DIR]", "interrupt every call of the plugin that changes something at every system call, let every look fail, and judge what is left and what is said", sweep},
	{"explore", "-check CMD -sabotage CMD [-setup CMD] [-begin CMD] [-recover CMD] [-stdin FILE] [-fs KIND,...] [-modes MODE,...] [-json FILE] [-keep DIR] [-dir DIR] -- PROGRAM [ARG]...", "do the same to any program; the commands are the shell's, in the filesystem's top directory, with SRCRASH_ENDED=succeeded, failed or killed", exploreCommand},
	{"mutants", "[-run REGEXP] [-j N] [-source DIR] [-dir DIR]", "build the plugin with bugs sown into it (testdata/mutants), and fail if one is not found by what should find it", mutants},
	{"load", load.Usage, "take snapshots of disks that are being written to, and judge each", load.Run},
	{"fuzz", "[-for 10m] [-run REGEXP]", "fuzz everything that reads foreign bytes, one target after the other", fuzz},
	{"hammer", "[-fs LIST] [-seeds N] [-seed S] [-calls N] [-workers N] [-kills PERCENT] [-volumes N] [-stop] [-invariants [-for TIME]] [-volume DIR -datapath DIR] [-json FILE]", "many calls at once on few volumes, and whether their answers can be those of some order", hammer.Hammer},
	{"storm", "[-fs LIST] [-workers N] [-for TIME] [-volumes N] [-kills PERCENT] [-volume DIR -datapath DIR] [-json FILE]", "many domains attach and detach at once; nothing may be left", hammer.Storm},
}

func main() {
	trace.Hook()
	if status, was := rig.ActAsInstalled(); was {
		os.Exit(status)
	}
	if len(os.Args) > 1 && os.Args[1] == calls.CompactCommand {
		os.Exit(calls.Compact(os.Args[2:], os.Stdout))
	}
	if len(os.Args) == 3 && os.Args[1] == calls.MigrateCommand {
		os.Exit(calls.Migrate(os.Args[2], os.Stdin, os.Stdout, os.Stderr))
	}
	// Each process of a race-detecting build would wait a second before it ends.
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	if status, again := scratch.Isolate(); again {
		os.Exit(status)
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, out, errs io.Writer) int {
	if len(args) > 0 && args[0] == "worker" {
		if err := work(args[1:], out); err != nil {
			fmt.Fprintln(errs, "srcrash worker:", err)
			return 1
		}
		return 0
	}
	if len(args) > 0 {
		for _, c := range commands {
			if c.name != args[0] {
				continue
			}
			if os.Getuid() != 0 {
				fmt.Fprintln(errs, "srcrash mounts filesystems and attaches loop devices, which needs root: sudo")
				return 1
			}
			err := c.run(args[1:], out)
			switch {
			case err == nil:
				return 0
			case errors.Is(err, flag.ErrHelp):
				return 2
			}
			fmt.Fprintf(errs, "srcrash %s: %v\n", c.name, err)
			return 1
		}
	}
	fmt.Fprintln(errs, "usage: srcrash COMMAND [FLAG]...")
	for _, c := range commands {
		fmt.Fprintf(errs, "\n  srcrash %s %s\n        %s\n", c.name, c.args, c.about)
	}
	return 2
}
