package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"reflinksr/cmd/srcrash/internal/disk"
	"reflinksr/cmd/srcrash/internal/explore"
	"reflinksr/cmd/srcrash/internal/trace"
)

// external is anybody's command as a subject. What is done around it is shell
// commands, which find the filesystem as their working directory.
type external struct {
	args                                    []string
	stdin                                   []byte
	setup, recovery, check, sabotage, begin string
	dir                                     string
}

func (x *external) Name() string { return strings.Join(x.args, " ") }

// shell runs a shell command with what the checker may want to know.
func (x *external) shell(command string, ended string) error {
	if command == "" {
		return nil
	}
	c := exec.Command("/bin/sh", "-c", command) // #nosec G204 -- it is what the tester asked for
	c.Dir = x.dir
	c.Env = append(os.Environ(), "SRCRASH_ENDED="+ended)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %.500s", command, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (x *external) Setup() error { return x.shell(x.setup, "") }
func (x *external) Begin() error { return x.shell(x.begin, "") }

func (x *external) Command() (trace.Command, []string) {
	return trace.Command{Path: x.args[0], Args: x.args[1:], Dir: x.dir, Stdin: x.stdin}, []string{x.dir}
}

func (x *external) Recovery() trace.Command {
	return trace.Command{Path: "/bin/sh", Args: []string{"-c", x.recovery}, Dir: x.dir}
}

func (x *external) Learn(explore.Ending) error { return nil }
func (x *external) Restart() error             { return nil }
func (x *external) End() error                 { return nil }
func (x *external) Alone() bool                { return false }
func (x *external) Refused() bool              { return false }

func (x *external) Plain(call string) string { return strings.ReplaceAll(call, x.dir+"/", "") }

func (x *external) Spoil(i int) (string, error) {
	if i > 0 {
		return "", nil
	}
	return x.sabotage, x.shell(x.sabotage, "")
}

func (x *external) Judge(e explore.Ending) (wrong []string) {
	ended := "killed"
	if e.Ended && e.Result.Status.Exited() {
		if ended = "failed"; e.Result.Succeeded() {
			ended = "succeeded"
		}
	}
	if err := x.shell(x.recovery, ended); err != nil {
		wrong = append(wrong, err.Error())
	}
	if err := x.shell(x.check, ended); err != nil {
		wrong = append(wrong, err.Error())
	}
	return wrong
}

// exploreCommand explores any command.
func exploreCommand(args []string, out io.Writer) (err error) {
	var o sweeping
	var x external
	var stdin string
	f := flag.NewFlagSet("explore", flag.ContinueOnError)
	f.StringVar(&o.fs, "fs", "btrfs,xfs", "")
	f.StringVar(&o.modes, "modes", strings.Join(explore.Modes, ","), "")
	f.StringVar(&o.jsonl, "json", "", "")
	f.StringVar(&o.keep, "keep", "", "")
	f.StringVar(&o.dir, "dir", "", "")
	f.StringVar(&stdin, "stdin", "", "")
	f.StringVar(&x.setup, "setup", "", "")
	f.StringVar(&x.begin, "begin", "", "")
	f.StringVar(&x.recovery, "recover", "", "")
	f.StringVar(&x.check, "check", "", "")
	f.StringVar(&x.sabotage, "sabotage", "", "")
	if err := f.Parse(args); err != nil || f.NArg() == 0 {
		return flag.ErrHelp
	}
	if x.check == "" || x.sabotage == "" {
		return errors.New("-check and -sabotage are needed: a check that has never been seen to fail proves nothing")
	}
	if stdin != "" {
		if x.stdin, err = os.ReadFile(stdin); err != nil {
			return err
		}
	}
	if x.args = f.Args(); !strings.Contains(x.args[0], "/") {
		if x.args[0], err = exec.LookPath(x.args[0]); err != nil {
			return err
		}
	}
	if x.args[0], err = filepath.Abs(x.args[0]); err != nil {
		return err
	}
	dir, err := workDir(o.dir)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	shelf, err := disk.NewShelf(dir)
	if err != nil {
		return err
	}
	defer shelf.Remove()
	x.dir = filepath.Join(dir, "mnt")
	if err := os.Mkdir(x.dir, 0o700); err != nil {
		return err
	}
	lines := json.NewEncoder(io.Discard)
	if o.jsonl != "" {
		file, err := os.Create(o.jsonl)
		if err != nil {
			return err
		}
		defer file.Close()
		lines = json.NewEncoder(file)
	}
	t := &tally{start: time.Now()}
	for _, kind := range strings.Split(o.fs, ",") {
		e := &explore.Engine{Shelf: shelf, Kind: kind, Dir: x.dir, Prefix: kind}
		err := e.Explore(&x, explore.Plan{Modes: strings.Split(o.modes, ","), Keep: o.keep}, func(v explore.Verdict) {
			t.add(v)
			lines.Encode(v)
			if len(v.Wrong) > 0 {
				fmt.Fprintf(out, "WRONG on %s: %s\n", v.FS, describe(v))
			}
		})
		if err != nil {
			return err
		}
	}
	t.print(out)
	if t.wrong > 0 {
		return errFound
	}
	return nil
}
