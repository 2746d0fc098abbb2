// Command reflinksr-smapiv1 is the storage driver ReflinkSR, for hosts whose toolstack speaks the older interface, SMAPIv1: xapi starts it with one request
// by XML-RPC as its argument. Called with a command and a device configuration, as by FileSR, ExtSR or NfsSR, it is a driver of that
// interface's first form.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/syslog"
	"reflinksr/cmd/internal/version"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/repository"
	"reflinksr/internal/smapiv1"
	"reflinksr/internal/smapiv1/xenapi"
	"reflinksr/internal/smapiv1/xmlrpc"
)

const usage = `usage: ReflinkSR REQUEST                                     answer a request of xapi, which is XML-RPC
       ReflinkSR COMMAND DCONF SR-UUID [ARGUMENT...]         carry out a command of the interface's first form
       ReflinkSR version

Called FileSR, ExtSR or NfsSR it takes the device configuration of such a driver.
`

// log is where every line goes in the form of today, whose caller reads standard error as a part of failures.
var log = syslog.Handler{Program: "ReflinkSR"}

func main() {
	unix.Umask(0o077)
	hostinfo.Release = version.Version
	slog.SetDefault(slog.New(log))
	os.Exit(run(context.Background(), os.Args, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	switch {
	case len(args) == 2 && args[1] == "version":
		fmt.Fprintln(out, "ReflinkSR", version.String())
		return 0
	case len(args) < 2:
		fmt.Fprint(errs, usage)
		return int(unix.EINVAL)
	case len(args) == 2:
		out.Write(answer(ctx, args[1]))
		return 0 // whatever it answers: of another status xapi reads no answer
	}
	return formerly(ctx, driverOf(args[0]), args[1:], out, errs)
}

// driverOf is the kind of driver that a program's name tells: Reflink, File …
func driverOf(name string) string {
	if base := filepath.Base(name); base != "reflinksr-smapiv1" {
		return strings.TrimSuffix(base, "SR")
	}
	return "Reflink" // it is not installed
}

// answer is the response to a request of xapi.
func answer(ctx context.Context, argument string) []byte {
	r, err := smapiv1.ParseRequest(argument)
	if err != nil {
		slog.Error("failed", "err", err)
		return smapiv1.FaultOf("request", err).Response()
	}
	slog.SetDefault(slog.New(log.WithAttrs([]slog.Attr{slog.String("call", r.Command), slog.String("task", r.Task)})))
	start := time.Now()
	about := func() []any { return []any{"sr", r.SRUUID, "key", r.VDIUUID, "took", time.Since(start)} }
	value, err := carryOut(ctx, r)
	if err != nil {
		err = repository.Explain(r.DeviceConfig["path"], err)
		slog.Error("failed", append(about(), "err", err)...)
		return smapiv1.FaultOf(r.Command, err).Response()
	}
	slog.Info("done", about()...)
	return xmlrpc.Response(value)
}

// xapiSocket is where xapi listens: tests have another in its place.
func xapiSocket() string {
	if socket := os.Getenv("REFLINKSR_XAPI"); socket != "" {
		return socket
	}
	return xenapi.Socket
}
