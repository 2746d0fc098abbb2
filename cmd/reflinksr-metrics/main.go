// Command reflinksr-metrics gives the toolstack's graphs what disks of reflinksr's SRs do: a plugin of xcp-rrdd, which runs as
// long as the host does. It waits for the daemon, goes on with one that was started anew, and takes leave of it when it is ended.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/version"
	"reflinksr/internal/rrd"
	"reflinksr/internal/xenstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	flags := flag.NewFlagSet("reflinksr-metrics", flag.ContinueOnError)
	flags.SetOutput(errs)
	socket := flags.String("rrdd", rrd.Socket, "the `socket` of xcp-rrdd")
	places := flags.String("xenstore", strings.Join(xenstore.Places(), ","), "where xenstored listens: `paths`, the first that is there")
	uid := flags.String("uid", "reflinksr", "the `name` of the plugin, and of its file")
	tell := flags.Bool("version", false, "tell which build this is")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(errs, "reflinksr-metrics takes no arguments, and got %q\n", flags.Args())
		return 2
	}
	if *tell {
		fmt.Fprintln(out, "reflinksr-metrics", version.String())
		return 0
	}
	log := slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	slog.SetDefault(log)
	p := plugin{daemon: rrd.NewClient(*socket, *uid), gatherer: newGatherer(strings.Split(*places, ","))}
	p.run(ctx)
	return 0
}

// withoutTime leaves out what the journal tells by itself.
func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
