package scripts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// Shell is a session in which lines of the language are carried out as they come.
type Shell struct {
	// Read gives the next line; io.EOF ends the session.
	Read func() (string, error)
	Out  io.Writer

	s     *script
	lines []string // that succeeded
}

const shellHelp = `Verbs of scenarios, one a line (help lists them, help VERB describes one), and
  exec COMMAND ARG...  run a command; variables of the session are in its environment
  env [NAME=VALUE]     show the variables, or set one
  save FILE            write the lines that succeeded so far as a scenario
  exit                 clean up and leave (or Ctrl-D)
`

// Run holds the session, as one scenario of t in a working directory of its own:
// afterwards everything is cleaned up. dir is an empty directory that is there until
// t has ended, which may be after Run.
func (sh *Shell) Run(t testscript.T, c Config, dir string) error {
	return hold(t, c, dir, func(s *script) {
		sh.s, s.shell = s, sh.Out
		sh.session()
	})
}

// hold has one scenario of t whose lines come from elsewhere than a file. dir is an
// empty directory that is there until t has ended.
func hold(t testscript.T, c Config, dir string, session func(s *script)) error {
	file := filepath.Join(dir, "session.txtar")
	if err := os.WriteFile(file, []byte("session\n"), 0o600); err != nil {
		return err
	}
	params := c.params([]string{file})
	params.Cmds["session"] = func(ts *testscript.TestScript, _ bool, _ []string) {
		s := ts.Value(stateKey{}).(*script)
		s.ts = ts
		session(s)
	}
	testscript.RunT(t, params)
	return nil
}

// Began says whether there was a session.
func (sh *Shell) Began() bool { return sh.s != nil }

func (sh *Shell) session() {
	fmt.Fprint(sh.Out, "> sr\n")
	sh.line("sr")
	fmt.Fprintf(sh.Out, "The filesystem is at %s. Say help, or exit.\n", sh.s.ts.Getenv("MNT"))
	for sh.s.config.context().Err() == nil {
		line, err := sh.Read()
		if err != nil || strings.TrimSpace(line) == "exit" {
			return
		}
		sh.line(line)
	}
}

// line carries one line out and shows what came of it.
func (sh *Shell) line(line string) {
	words, err := split(line, sh.s.ts.Getenv)
	if err == nil && len(words) == 0 {
		return
	}
	made := len(sh.s.calls)
	keep := false
	if err == nil {
		keep, err = sh.do(words)
	}
	if keep && err == nil {
		sh.lines = append(sh.lines, line)
	}
	for _, c := range sh.s.calls[min(made, len(sh.s.calls)):] {
		fmt.Fprintf(sh.Out, "  %s %s, %.0f ms\n", c.Method, c.Outcome, c.Seconds*1000)
	}
	switch {
	case err != nil:
		fmt.Fprintln(sh.Out, err)
	case words[0] == "call" || words[0] == "volume" || words[0] == "!":
		if sh.s.refusal != nil {
			fmt.Fprintln(sh.Out, sh.s.refusal)
		} else {
			fmt.Fprintln(sh.Out, indented(sh.s.last))
		}
	}
}

// do carries words out and says whether a scenario could have the line.
func (sh *Shell) do(words []string) (keep bool, err error) {
	name, args, not := words[0], words[1:], false
	if name == "!" && len(args) > 0 {
		not, name, args = true, args[0], args[1:]
	}
	switch name {
	case "help":
		if len(args) == 0 {
			fmt.Fprint(sh.Out, shellHelp)
			for _, v := range table {
				fmt.Fprintln(sh.Out, "  "+v.usage)
			}
			return false, nil
		}
		text, err := Usage(args[0])
		fmt.Fprintln(sh.Out, text)
		return false, err
	case "env":
		for _, arg := range args {
			k, v, ok := strings.Cut(arg, "=")
			if !ok || k == "" {
				return false, errors.New("usage: env [NAME=VALUE]")
			}
			sh.s.ts.Setenv(k, v)
		}
		if len(args) == 0 {
			fmt.Fprintln(sh.Out, strings.Join(sh.environment(), "\n"))
		}
		return len(args) > 0, nil
	case "save":
		if len(args) != 1 {
			return false, errors.New("usage: save FILE")
		}
		return false, os.WriteFile(args[0], []byte("# A sentence about behaviour.\n"+strings.Join(sh.lines, "\n")+"\n"), 0o644)
	case "exec":
		if len(args) == 0 {
			return false, errors.New("usage: exec COMMAND [ARG ...]")
		}
		c := exec.CommandContext(sh.s.config.context(), args[0], args[1:]...)
		c.Dir, c.Env = sh.s.work, append(os.Environ(), sh.environment()...)
		c.Stdin, c.Stdout, c.Stderr = os.Stdin, sh.Out, sh.Out
		err := c.Run()
		return (err != nil) == not, nil
	}
	v, err := find(name, not)
	if err != nil {
		return false, fmt.Errorf("%w; help lists what there is (exec runs other commands)", err)
	}
	return true, v.run(sh.s, not, args)
}

// environment are the variables that are set, as NAME=VALUE. They are those that
// verbs set, and those that the lines so far name.
func (sh *Shell) environment() (env []string) {
	names := []string{"FS", "MNT", "SR", "SR_PATH", "SR_UUID", "SR_CONF", "DEV", "VOLUME", "DATAPATH", "WORK"}
	for _, line := range sh.lines {
		if words, err := split(line, func(string) string { return "" }); err == nil && len(words) > 1 {
			switch name, _, _ := strings.Cut(words[1], "="); words[0] {
			case "get", "volume", "free", "extents", "env":
				names = append(names, name)
			case "sr", "conf":
				names = append(names, name, name+"_PATH", name+"_UUID", name+"_CONF")
			}
		}
	}
	seen := map[string]bool{}
	for _, name := range names {
		if v := sh.s.ts.Getenv(name); v != "" && !seen[name] {
			env = append(env, name+"="+v)
			seen[name] = true
		}
	}
	return env
}

// split takes a line apart as testscript does: words end at blanks, # begins a
// comment, single quotes keep what is in them as it is (” is a quote there),
// $NAME and ${NAME} are replaced elsewhere.
func split(line string, getenv func(string) string) (words []string, err error) {
	var word strings.Builder
	inWord, quoted, start := false, false, 0
	plain := func(end int) { word.WriteString(os.Expand(line[start:end], getenv)) }
	for i := 0; ; i++ {
		switch {
		case !quoted && (i == len(line) || strings.ContainsRune(" \t\r#", rune(line[i]))):
			if inWord {
				plain(i)
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
			if i == len(line) || line[i] == '#' {
				return words, nil
			}
		case i == len(line):
			return nil, errors.New("a quote is not closed")
		case line[i] != '\'':
			if !inWord {
				inWord, start = true, i
			}
		case !quoted:
			if inWord {
				plain(i)
			}
			inWord, quoted, start = true, true, i+1
		case i+1 < len(line) && line[i+1] == '\'':
			word.WriteString(line[start : i+1])
			i++
			start = i + 1
		default:
			word.WriteString(line[start:i])
			quoted, start = false, i+1
		}
	}
}

// indented is a value as JSON for the eye.
func indented(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("  ", "  ")
	enc.Encode(v)
	return "  " + strings.TrimSpace(b.String())
}
