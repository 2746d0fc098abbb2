// Command onereflink is OpenNebula's drivers of datastores and transfers for filesystems that share blocks: one program under the
// name of each action, remotes/datastore/reflink/cp, remotes/tm/reflink/clone …
//
// It runs as oneadmin. On a host that is not this one it does an action's work by one ssh, as "onereflink host", which onehost sync has put there.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/version"
	"reflinksr/internal/opennebula"
)

const usage = `usage: onereflink version
       onereflink install REMOTES
                              put this program and a link for each action below REMOTES, where OpenNebula
                              has its drivers (/var/lib/one/remotes); again after an upgrade
       onereflink uninstall REMOTES
                              remove them
       onereflink configure [--undo] ONED.CONF VMM_EXECRC
                              tell OpenNebula of the drivers, in /etc/one/oned.conf and
                              /etc/one/vmm_exec/vmm_execrc; restart it afterwards
       onereflink host        do the work of one action that another host sends (by ssh)

Else it is called by OpenNebula, by the name of an action: remotes/datastore/reflink/ACTION or remotes/tm/reflink/ACTION.
`

func main() {
	unix.Umask(0o007)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	if filepath.Base(args[0]) == "onereflink" {
		switch {
		case len(args) == 2 && args[1] == "host":
			return serve(ctx, in, out, errs)
		case len(args) == 3 && (args[1] == "install" || args[1] == "uninstall"):
			do := install
			if args[1] == "uninstall" {
				do = uninstall
			}
			if err := do(args[2]); err != nil {
				fmt.Fprintf(errs, "onereflink %s: %s\n", args[1], opennebula.OneLine(err.Error()))
				return 1
			}
			return 0
		case len(args) == 4 && args[1] == "configure", len(args) == 5 && args[1] == "configure" && args[2] == "--undo":
			if err := configure(args[len(args)-2], args[len(args)-1], len(args) == 5); err != nil {
				fmt.Fprintln(errs, "onereflink configure:", opennebula.OneLine(err.Error()))
				return 1
			}
			return 0
		case len(args) == 2 && args[1] == "version":
			fmt.Fprintln(out, "onereflink", version.String())
			return 0
		}
		fmt.Fprint(errs, usage)
		return 2
	}
	c, err := opennebula.NewCall(args, in)
	if err == nil {
		var answer string
		if answer, err = act(ctx, c); err == nil {
			_, err = io.WriteString(out, answer)
		}
	}
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			err = fmt.Errorf("it was ended: %w", err)
		}
		c.Tell(errs, err)
		return 1
	}
	return 0
}

// act does an action and answers what it prints.
func act(ctx context.Context, c opennebula.Call) (string, error) {
	table := transfers
	if c.Driver == "datastore" {
		table = datastores
	}
	do, ok := table[c.Action]
	if !ok {
		return "", fmt.Errorf("the driver has no action of that name")
	}
	return do(ctx, c)
}

type action func(ctx context.Context, c opennebula.Call) (string, error)
