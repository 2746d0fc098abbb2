// Srlab tries the plugin where it is used: on a Xen host with guests behind
// xen-blkback, and on hosts that share an SR. The machines are emulated; all of them are
// made of Debian's packages, and nothing is installed here. See docs/lab.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"reflinksr/cmd/internal/plugin"
	"reflinksr/cmd/internal/pool"
	"reflinksr/cmd/internal/srnbd"
	"reflinksr/cmd/srlab/internal/database"
	"reflinksr/cmd/srlab/internal/guest"
	"reflinksr/internal/repository"
	"reflinksr/scripts"
)

const usage = `usage: srlab [flag]... xen|nfs|ocfs2|kernels|all
       srlab [flag]... fetch [kernels]   only get the packages; with kernels, the old kernel's as well
       srlab [flag]... mutants   bugs are sown (testdata/mutants): is each found?
  -run REGEXP     only scenarios, or mutants, whose name matches
  -fs xfs|btrfs   only on this filesystem; by default on both
  -srctl FILE     the srctl to try; by default it is built
  -part K/N       the K-th of N parts that together are all of them
  -plugin FILE    the reflinksr to try; by default this program is one itself
  -source DIR     the repository, for mutants; by default the current directory
  -cache DIR      where packages are kept; by default below the user's cache directory
  -limit TIME     of it all; by default 1h
  -v              show the consoles of the machines, and whole logs

The lab wants a Debian or Ubuntu machine of x86-64 with some 4 GiB of memory, and 2 GiB
of disk, most of it for its cache. It does not want root.
`

var kinds = []string{"xen", "nfs", "ocfs2", "kernels"}

func main() {
	switch {
	case guest.IsInit():
		guest.Main()
	case plugin.IsCall(os.Args[0]):
		os.Exit(plugin.Main())
	case os.Args[0] == repository.ServerProgram:
		os.Exit(srnbd.Main())
	case len(os.Args) > 1 && os.Args[1] == "install": // in a machine of the lab
		exit(plugin.Install(os.Args[2:], os.Stdout))
	case len(os.Args) == 4 && os.Args[1] == "relay": // the same
		exit(relay(os.Args[2], os.Args[3]))
	case len(os.Args) == 4 && os.Args[1] == "writer": // in a guest
		exit(scripts.Write(os.Args[2], os.Args[3]))
	case len(os.Args) > 1 && os.Args[1] == "database": // in a guest
		exit(database.Main(os.Args[2:]))
	default:
		exit(run())
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "srlab:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run() error {
	l := &lab{out: os.Stdout, start: time.Now()}
	flags := flag.NewFlagSet("srlab", flag.ExitOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	pattern := flags.String("run", "", "")
	l.part, l.parts = 1, 1
	flags.Func("part", "", func(text string) error {
		if _, err := fmt.Sscanf(text+"\n", "%d/%d\n", &l.part, &l.parts); err != nil || l.part < 1 || l.part > l.parts {
			return fmt.Errorf("want K/N, with K from 1 to N")
		}
		return nil
	})
	limit := flags.Duration("limit", time.Hour, "")
	flags.StringVar(&l.plugin, "plugin", "", "")
	flags.StringVar(&l.srctl, "srctl", "", "")
	flags.StringVar(&l.cache, "cache", "", "")
	flags.BoolVar(&l.verbose, "v", false, "")
	flags.StringVar(&l.fs, "fs", "", "")
	source := flags.String("source", ".", "")
	flags.Parse(os.Args[1:])
	if l.fs != "" && l.fs != "xfs" && l.fs != "btrfs" {
		return fmt.Errorf("-fs %s: there are xfs and btrfs", l.fs)
	}
	match, err := regexp.Compile(*pattern)
	if err != nil {
		return err
	}
	wanted := flags.Args()
	if len(wanted) == 1 && wanted[0] == "all" {
		wanted = kinds
	}
	if len(wanted) == 0 {
		flags.Usage()
		os.Exit(2)
	}
	if l.cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		l.cache = filepath.Join(dir, "reflinksr-lab")
	}
	if l.cache, err = filepath.Abs(l.cache); err != nil {
		return err
	}
	interrupted, over := pool.Interruptible()
	defer over()
	var cancel context.CancelFunc
	l.ctx, cancel = context.WithTimeoutCause(interrupted, *limit, fmt.Errorf("the lab was stopped: it had been running for %v", *limit))
	defer cancel()
	if wanted[0] == "mutants" {
		return l.mutants(*source, *pattern)
	}
	dir, err := os.MkdirTemp("", "srlab-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l.sockets = dir
	if l.images, err = l.buildImages(l.ctx, dir); err != nil {
		return err
	}
	if wanted[0] == "fetch" {
		if slices.Contains(wanted, "kernels") {
			if err := l.addOld(l.ctx); err != nil {
				return err
			}
		}
		l.tell("everything is there")
		return nil
	}
	var failed []string
	for _, kind := range wanted {
		f, err := l.play(kind, match.MatchString)
		if err != nil {
			return err
		}
		failed = append(failed, f...)
	}
	if len(failed) > 0 {
		return errors.New("failed: " + strings.Join(failed, " "))
	}
	if l.played == 0 {
		return errors.New("no scenario was played")
	}
	l.tell("%d scenarios passed", l.played)
	return nil
}
