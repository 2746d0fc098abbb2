// Command srctl is the operator's tool: it looks at SRs and volumes, snapshots,
// clones and reverts them, checks and repairs, and shows what all this is about
// on a throw-away filesystem.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/plugin"
	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
)

// errProblems says that a check found something; it has been printed.
var errProblems = errors.New("problems were found")

func main() {
	if plugin.IsCall(os.Args[0]) {
		os.Exit(plugin.Main()) // the demonstration installs this very program
	}
	os.Exit(run(os.Args[1:], terminal{os.Stdout}, terminal{os.Stderr}))
}

// run is one run of srctl, and returns its exit status: 0, 1 if something failed, 2 if the arguments make no sense, and 3 if
// there was nothing to check, or a disk that migrates is in use still.
func run(args []string, out, errs io.Writer) int {
	// Whoever hangs up on us is an error of the write, and not our end: what was begun is
	// taken back. (Not ignored: programs that are started would inherit that.)
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	slog.SetDefault(slog.New(warnings{out: errs}))
	s := &session{out: &output{Writer: out}}
	root := s.root()
	root.SetArgs(withLongFlags(args))
	root.SetOut(s.out)
	root.SetErr(errs)
	c, err := root.ExecuteContextC(context.Background())
	if err == nil {
		err = s.out.failed // nobody has got all that was to be told
	}
	var u *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &u):
		fmt.Fprintf(errs, "%s: %v\nusage: %s\n%s --help tells more\n", c.CommandPath(), err, c.UseLine(), c.CommandPath())
		return 2
	}
	op := strings.TrimPrefix(c.CommandPath(), root.Name()+" ")
	if errors.Is(err, os.ErrPermission) && os.Geteuid() != 0 {
		err = fault.Hint(err, "run it as root: sudo srctl …")
	}
	fmt.Fprintf(errs, "srctl %v\n", fault.In(op, repository.Explain(s.directory(args), err)))
	if errors.Is(err, errUnchecked) || errors.Is(err, errHasIt) {
		return 3
	}
	return 1
}

// directory is that of the SR that was asked for, or the first argument that can be an SR's: "" if none can.
func (s *session) directory(args []string) string {
	if s.path != "" {
		return s.path
	}
	for _, arg := range args {
		if strings.HasPrefix(arg, "/") {
			return arg
		}
	}
	return ""
}
