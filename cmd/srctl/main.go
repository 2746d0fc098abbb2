// Command srctl is the operator's tool: it looks at SRs and volumes, snapshots,
// clones and reverts them, checks and repairs, and shows what all this is about
// on a throw-away filesystem.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/plugin"
	"reflinksr/cmd/internal/version"
	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
)

// command is one subcommand.
type command struct {
	name, args, about string
	run               func(ctx context.Context, args []string, out io.Writer) error
}

var commands = []command{
	{"demo", "[-fs btrfs|xfs]", "show the main job on a throw-away filesystem (needs root)", demo},
	{"ls", "[-json] [PATH]", "list the attached SRs, or the volumes of one", ls},
	{"show", "[-json] PATH KEY", "show one volume: record, extents, what is shared, who has it", show},
	{"snapshot", "PATH KEY", "take a snapshot; prints its key", one(snapshotCmd)},
	{"clone", "PATH KEY", "make a writable clone; prints its key", one(cloneCmd)},
	{"revert", "PATH SNAPSHOT KEY", "give the volume KEY the contents of SNAPSHOT", revert},
	{"destroy", "PATH KEY", "destroy a volume that is not in use", one(destroyCmd)},
	{"export", "PATH KEY FILE", "copy a volume, as it is at one moment, to a sparse file outside of any SR; - for a pipe", export},
	{"changed", "[-json] PATH A B", "tell which blocks of the volume B may differ from those of A, and show where", changed},
	{"du", "[-json] [PATH]", "tell what every volume occupies, shares, and gives back when it is destroyed", du},
	{"metrics", "[-textfile FILE] [-within DURATION] [PATH]", "tell figures of the attached SRs, or of one, and of their volumes, for a monitoring system, as OpenMetrics; -textfile: into a file for node_exporter, replaced as a whole; -within: how long extents of volumes are looked at in all, by default 10s; 0s: not", metrics},
	{"compact", "[-n] [-unused PERCENT] PATH KEY", "give back what btrfs keeps of extents of which the volume, and nobody else, uses only a part, by writing that part anew: told beforehand, with what it costs; -n: only told; -unused: of extents with so much that is of no use, by default 10 percent. The volume must be idle", compact},
	{"tree", "PATH", "show which volume comes from which, with sizes and ages", tree},
	{"delta", "export PATH [A|-] B FILE | apply [-overwrite] FILE TARGET | verify FILE", "write what B has that the snapshot A has not (without A: all of it) as a stream; make a file or a block device that holds A hold B (-overwrite: whatever it holds); say whether a stream is whole. FILE, and the TARGET of a whole disk, can be - for a pipe", deltaCmd},
	{"check", "[-json] [-repair] PATH", "look for what is not as it should be, attached or not; repair what is ours", checkSR},
	{"support", "[-within DURATION]", "tell all that is known of the attached SRs, their records and what a check finds, but nothing that is on a disk, as JSON, for a support bundle; -within: how long it may take, by default 1m", support},
	{"lease", "PATH | break PATH KEY | forget PATH HOST", "list who has volumes active; break the lease of a host that has died; break all of them, and forget that the host has the SR attached", leases},
	{"rehome", "PATH", "accept that a detached SR was moved or restored to another filesystem", relocate},
	{"doctor", "[-json]", "look whether this host can have SRs, and what is wrong with those that it has: kernel, programs, room, the installed plugin, other hosts' versions; each with what to do. It changes nothing, and fails if something is bad", diagnoseHost},
	{"version", "", "tell which build this is", tellVersion},
}

// errUsage is for arguments that make no sense.
var errUsage = errors.New("usage")

// errProblems says that a check found something; it has been printed.
var errProblems = errors.New("problems were found")

func main() {
	if plugin.IsCall(os.Args[0]) {
		os.Exit(plugin.Main()) // the demonstration installs this very program
	}
	os.Exit(run(os.Args[1:], terminal{os.Stdout}, terminal{os.Stderr}))
}

func run(args []string, out, errs io.Writer) int {
	// Whoever hangs up on us is an error of the write, and not our end: what was begun is
	// taken back. (Not ignored: programs that are started would inherit that.)
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	if len(args) > 0 {
		for _, c := range commands {
			if c.name != args[0] {
				continue
			}
			printed := &output{Writer: out}
			err := c.run(context.Background(), args[1:], printed)
			if err == nil {
				err = printed.failed // nobody has got all that was to be told
			}
			switch {
			case err == nil:
				return 0
			case errors.Is(err, errUsage), errors.Is(err, flag.ErrHelp):
				fmt.Fprintf(errs, "usage: srctl %s %s\n       %s\n", c.name, c.args, c.about)
				return 2
			}
			fmt.Fprintf(errs, "srctl %v\n", fault.In(c.name, repository.Explain(directory(args[1:]), err)))
			if errors.Is(err, errUnchecked) {
				return 3
			}
			return 1
		}
	}
	fmt.Fprintln(errs, "usage: srctl COMMAND [ARGUMENT]...\n\nPATH is the directory of an SR, which must be attached on this host (for rehome: detached; check looks at\nboth).")
	for _, c := range commands {
		fmt.Fprintf(errs, "\n  srctl %s %s\n        %s\n", c.name, c.args, c.about)
	}
	return 2
}

// parse reads flags and wants so many arguments after them.
func parse(name string, args []string, least, most int, define func(*flag.FlagSet)) ([]string, error) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	define(flags)
	if err := flags.Parse(args); err != nil {
		return nil, errUsage
	}
	if flags.NArg() < least || flags.NArg() > most {
		return nil, errUsage
	}
	return flags.Args(), nil
}

func noFlags(*flag.FlagSet) {}

func tellVersion(_ context.Context, args []string, out io.Writer) error {
	if _, err := parse("version", args, 0, 0, noFlags); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "srctl", version.String())
	return err
}

// at finds the attached SR at a path.
func at(ctx context.Context, path string) (repository.SR, error) {
	sr, err := repository.At(ctx, path)
	if err != nil {
		return "", fmt.Errorf("%w (srctl ls lists those that are)", err)
	}
	return sr, nil
}

// volumeAt finds a volume of the attached SR at a path.
func volumeAt(ctx context.Context, path, key string) (repository.Volume, error) {
	sr, err := at(ctx, path)
	if err != nil {
		return repository.Volume{}, err
	}
	return repository.ParseVolume(sr, key)
}

// volumesAt finds two volumes of the attached SR at a path.
func volumesAt(ctx context.Context, path, key, other string) (a, b repository.Volume, err error) {
	if a, err = volumeAt(ctx, path, key); err == nil {
		b, err = repository.ParseVolume(a.SR, other)
	}
	return a, b, err
}

// directory is the first argument that can be an SR's: "" if none can.
func directory(args []string) string {
	for _, arg := range args {
		if strings.HasPrefix(arg, "/") {
			return arg
		}
	}
	return ""
}
