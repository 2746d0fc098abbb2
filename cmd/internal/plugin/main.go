package plugin

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/smapi"
	"reflinksr/cmd/internal/version"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
	"reflinksr/volume"
)

// process is everything a call has of its process.
type process struct {
	argv0  string
	args   []string
	stdin  io.Reader
	stdout io.Writer
}

// IsCall says whether a program name is a SMAPIv3 call's: Class.method.
func IsCall(argv0 string) bool {
	class, method, ok := strings.Cut(filepath.Base(argv0), ".")
	return ok && method != "" && slices.ContainsFunc(classes, func(c string) bool { return strings.EqualFold(c, class) })
}

// classes are those of the interface, also the ones of which we have no call.
var classes = []string{"Plugin", "SR", "Volume", "Datapath", "Data", "Task"}

// Main is the process of one call, and returns its exit status.
func Main() int {
	return run(process{os.Args[0], os.Args[1:], os.Stdin, os.Stdout})
}

// MainAs is Main for a call named by an argument: reflinksr Volume.stat …
func MainAs(name string, args []string) int {
	return run(process{name, args, os.Stdin, os.Stdout})
}

func run(p process) int {
	unix.Umask(0o077)
	slog.SetDefault(slog.New(syslog{}))
	start := time.Now()
	name, where := identify(p.argv0)
	c := find(name, where)
	if c == nil {
		fail(p, name, fault.Errorf(smapi.ErrUnimplemented, name, "this plugin has no such call"))
		return 1
	}
	params := smapi.Params("dbg " + c.params)
	args, err := smapi.ScanArgs(p.args, params)
	if args.Help {
		var b bytes.Buffer
		smapi.Usage(&b, c.name, c.about, params)
		p.stdout.Write(b.Bytes())
		return 0
	}
	var request *smapi.Request
	switch {
	case err != nil:
	case args.JSON:
		request, err = smapi.ReadJSON(p.stdin, params)
	default:
		request, err = args.Request(params)
	}
	var answer any
	if err == nil {
		slog.SetDefault(slog.New(syslog{}.WithAttrs([]slog.Attr{slog.String("dbg", request.Text("dbg")), slog.String("call", c.name)})))
		answer, err = c.run(request)
	}
	if err != nil && request != nil {
		err = filesystem.Explain(directory(request), err)
	}
	if err != nil {
		slog.Error("failed", "sr", of(request, "sr"), "key", of(request, "key", "uri"), "took", time.Since(start), "err", err)
		fail(p, c.name, err)
		return 1
	}
	slog.Info("done", "sr", of(request, "sr"), "key", of(request, "key", "uri"), "took", time.Since(start))
	if err := smapi.Reply(p.stdout, answer); err != nil {
		// What was done stands; the caller just did not want to know.
		slog.Error("the answer could not be written", "err", err)
		return 1
	}
	return 0
}

func fail(p process, name string, err error) { smapi.Fail(p.stdout, name, err) }

// identify takes argv[0] apart: the call's name, and which plugin's directory it
// was found in. Both have a Plugin.query.
func identify(argv0 string) (name string, where place) {
	switch filepath.Base(filepath.Dir(argv0)) {
	case datapathPlugin:
		return filepath.Base(argv0), inDatapath
	case volumePlugin:
		return filepath.Base(argv0), inVolume
	}
	return filepath.Base(argv0), inVolume | inDatapath
}

// directory is that of the SR which a call changes: "" if none is named.
func directory(r *smapi.Request) string {
	handle := of(r, "dest_sr", "sr")
	if uri := r.Text("uri"); uri != "" {
		handle, _, _, _ = volume.ParseURI(uri)
	}
	if path, _, err := layout.ParseHandle(handle); err == nil {
		return path
	}
	return r.Map("configuration")["path"]
}

// of returns the first of the arguments that the request has, for the log.
func of(r *smapi.Request, names ...string) string {
	for _, name := range names {
		if r != nil && r.Text(name) != "" {
			return r.Text(name)
		}
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
