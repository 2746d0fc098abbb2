package plugin

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/syslog"
	"reflinksr/cmd/internal/version"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/repository"
	"reflinksr/internal/smapi"
	"reflinksr/internal/smapi/serve"
)

// IsCall says whether a program name is a SMAPIv3 call's: Class.method, of whatever method. One that the interface does not
// have is answered as Unimplemented.
func IsCall(argv0 string) bool {
	class, method, _ := strings.Cut(filepath.Base(argv0), ".")
	return method != "" && smapi.PluginsOf(class+".method") != 0
}

// Main is the process of one call, and returns its exit status.
func Main() int { return MainAs(os.Args[0], os.Args[1:]) }

// MainAs is Main for a call named by an argument: reflinksr Volume.stat …
func MainAs(name string, args []string) int {
	unix.Umask(0o077)
	hostinfo.Release = version.Version
	slog.SetDefault(slog.New(log))
	p := serve.Process{Argv0: name, Args: args, Stdin: os.Stdin, Stdout: os.Stdout}
	return p.Serve(context.Background(), callsAt(name), explained)
}

// log is where every line goes, and nowhere else: standard error stays empty on success.
var log = syslog.Handler{Program: "reflinksr"}

// callsAt are the calls of the plugin in whose directory a program was found. Both have a
// Plugin.query; elsewhere it is the volume plugin's.
func callsAt(argv0 string) []serve.Handler {
	switch filepath.Base(filepath.Dir(argv0)) {
	case datapathPlugin:
		return datapathCalls()
	case volumePlugin:
		return volumeCalls()
	}
	return slices.Concat(volumeCalls(), datapathCalls())
}

// explained is a call with a line of it in the log, and an error that says what is known of why.
func explained(ctx context.Context, call string, r serve.Request, answer func(context.Context) (any, error)) (any, error) {
	start := time.Now()
	if r.Request != nil {
		slog.SetDefault(slog.New(log.WithAttrs([]slog.Attr{slog.String("dbg", r.Debug), slog.String("call", call)})))
	}
	value, err := answer(ctx)
	about := []any{"sr", smapi.Argument(r.Request, "sr"), "key", smapi.Argument(r.Request, "key", "uri"), "took", time.Since(start)}
	if err != nil {
		err = repository.Explain(directory(r.Request), err)
		slog.Error("failed", append(about, "err", err)...)
		return nil, err
	}
	slog.Info("done", about...)
	return value, nil
}

// directory is that of the SR which a call changes: "" if none is named.
func directory(r smapi.Request) string {
	sr := repository.SR(smapi.Argument(r, "dest_sr", "sr"))
	if uri := smapi.Argument(r, "uri"); uri != "" {
		sr, _ = repository.Datapath(uri).SR()
	}
	if path, err := sr.Path(); err == nil {
		return path
	}
	switch r := r.(type) {
	case smapi.SRProbe:
		return r.Configuration["path"]
	case smapi.SRCreate:
		return r.Configuration["path"]
	case smapi.SRAttach:
		return r.Configuration["path"]
	}
	return ""
}

// Command is what the program does under its own name.
func Command(args []string) int {
	if len(args) > 0 {
		switch rest := args[1:]; {
		case IsCall(args[0]):
			return MainAs(args[0], rest)
		case args[0] == "install":
			return report(Install(rest, os.Stdout))
		case args[0] == "uninstall":
			return report(Uninstall(rest, os.Stdout))
		case args[0] == "version":
			fmt.Println("reflinksr", version.String())
			return 0
		}
	}
	fmt.Fprint(os.Stderr, `usage: reflinksr install [--root DIR]             put the plugin directories in place
       reflinksr install --smapiv1 [--root DIR]   put the driver for SMAPIv1 in place instead, and allow it;
                                                  uninstall --smapiv1 takes it away
       reflinksr uninstall [--root DIR] [--force]  take them away
       reflinksr version
       reflinksr CALL [--json] [ARGUMENT...]      one SMAPIv3 call, as in: reflinksr SR.probe dbg
`)
	return 2
}

func report(err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintln(os.Stderr, "reflinksr:", err)
	return 1
}
