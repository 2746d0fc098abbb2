package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"reflinksr/internal/fault"
)

// peer is an SR that is reached by srctl: of this host, or by ssh of another.
type peer struct {
	host string   // "" is this one
	ssh  []string // the program that runs a command on a host, and its arguments
	sr   string   // as srctl there is to be told
}

// parsePeer reads SR or [USER@]HOST:SR. What begins with a slash, or has one before the colon, is a path of this host.
func parsePeer(text, ssh string) (peer, error) {
	p := peer{sr: text, ssh: strings.Fields(ssh)}
	if host, sr, remote := strings.Cut(text, ":"); remote && !strings.Contains(host, "/") {
		p.host, p.sr = host, sr
	}
	switch {
	case p.sr == "":
		return p, misused("%q names no SR", text)
	case strings.HasPrefix(p.host, "-"):
		return p, misused("%q is no host", p.host)
	case len(p.ssh) == 0:
		return p, misused("--ssh names no program")
	}
	return p, nil
}

// where is the peer for people.
func (p peer) where() string {
	if p.host == "" {
		return p.sr
	}
	return p.host + ":" + p.sr
}

// command is a command of srctl there. ssh hands a line to a shell, so each word is quoted.
func (p peer) command(ctx context.Context, args ...string) *exec.Cmd {
	if p.host == "" {
		c := exec.CommandContext(ctx, "/proc/self/exe", args...) // #nosec G204 -- this program
		c.Args[0] = "srctl"
		return c
	}
	line := "srctl"
	for _, arg := range args {
		line += " '" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
	}
	words := append(append([]string(nil), p.ssh[1:]...), "--", p.host, line)
	return exec.CommandContext(ctx, p.ssh[0], words...) // #nosec G204 -- what the operator names
}

// ask runs a command of srctl there, and decodes what it answers. What it says to people stands in the error.
func (p peer) ask(ctx context.Context, answer any, stdin io.Reader, args ...string) error {
	var out, errs bytes.Buffer
	c := p.command(ctx, args...)
	c.Stdin, c.Stdout, c.Stderr = stdin, &out, &errs
	if err := c.Run(); err != nil {
		said := strings.TrimSpace(errs.String())
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if p.host == "" && said != "" {
			return fmt.Errorf("%s", printable(strings.TrimPrefix(said, "srctl ")))
		}
		if p.host == "" {
			return fmt.Errorf("srctl %s: %w", args[0], err)
		}
		return fault.Hint(fmt.Errorf("srctl %s on %s: %w: %s", args[0], p.host, err, printable(said)), "ssh %s srctl ls has to work without a question", p.host)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(out.Bytes(), answer); err != nil {
		return fmt.Errorf("what srctl %s on %s answers is not understood (%w): is it of another version?", args[0], p.where(), err)
	}
	return nil
}
