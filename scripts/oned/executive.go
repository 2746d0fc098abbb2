// Package oned plays OpenNebula to its storage drivers: the two executives that oned starts, which run an action of a driver for each line
// that they are sent, and oned itself as far as drivers ask it about guests.
package oned

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Convention is how an action of a datastore gets what it is about.
type Convention string

// In the first argument (up to 6.6); on standard input, with "-" for the first argument (6.4.4 and 6.6.2, if so configured); on standard input (since 6.8).
const (
	Argument Convention = "argument"
	Dash     Convention = "dash"
	Stdin    Convention = "stdin"
)

// Cloud is one installation.
type Cloud struct {
	Remotes    string // where the drivers are
	Home       string // of the user
	User       uint32 // who runs the actions
	Convention Convention
	Marked     bool // an error is only what is between its two lines: before 6.2
	Env        []string
	Timeout    time.Duration
}

// Serve is an executive: it reads lines from in until it ends, and answers on out.
func (c Cloud) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 256<<20)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 1 && words[0] == "INIT":
			fmt.Fprintln(out, "INIT SUCCESS - -")
		case len(words) == 1 && words[0] == "FINALIZE":
			return nil
		case len(words) != 3:
			return fmt.Errorf("a line of %d words was sent", len(words))
		case words[0] == "TRANSFER":
			c.transfer(ctx, out, words[1], words[2])
		default:
			c.datastore(ctx, out, words[0], words[1], words[2])
		}
	}
	return lines.Err()
}

var (
	driver = regexp.MustCompile(`<(DS_MAD|TM_MAD)><?!?\[?C?D?A?T?A?\[?([a-z0-9_-]+)`)
	system = regexp.MustCompile(`<DATASTORE>(?s:.*)<TYPE>1</TYPE>(?s:.*)</DATASTORE>`)
)

// datastore runs an action of a datastore's driver; monitoring a system datastore is one of the transfer driver.
func (c Cloud) datastore(ctx context.Context, out io.Writer, action, id, payload string) {
	kind, mad := "datastore", "DS_MAD"
	xml, err := base64.StdEncoding.DecodeString(payload)
	if err == nil && action == "MONITOR" && system.Match(xml) {
		kind, mad = "tm", "TM_MAD"
	}
	name := "reflink" // of what cannot be read: oned sends none such
	for _, m := range driver.FindAllSubmatch(xml, -1) {
		if string(m[1]) == mad {
			name = string(m[2])
		}
	}
	args, stdin := []string{id}, payload
	switch c.Convention {
	case Argument:
		args, stdin = []string{payload, id}, ""
	case Dash:
		args = []string{"-", id}
	}
	answer, why := c.run(ctx, filepath.Join(c.Remotes, kind, name, strings.ToLower(action)), args, stdin)
	if why != "" {
		fmt.Fprintf(out, "%s FAILURE %s %s\n", action, id, why)
		return
	}
	if action == "MONITOR" {
		answer = base64.StdEncoding.EncodeToString([]byte(answer))
	}
	if answer = strings.ReplaceAll(strings.TrimSpace(answer), "\n", " "); answer == "" {
		answer = "-"
	}
	fmt.Fprintf(out, "%s SUCCESS %s %s\n", action, id, answer)
}

// transfer runs the lines of a file, until one fails.
func (c Cloud) transfer(ctx context.Context, out io.Writer, guest, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		fmt.Fprintf(out, "TRANSFER FAILURE %s %v\n", guest, err)
		return
	}
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		if _, why := c.Action(ctx, words, ""); why != "" {
			fmt.Fprintf(out, "TRANSFER FAILURE %s %s\n", guest, why)
			return
		}
	}
	fmt.Fprintf(out, "TRANSFER SUCCESS %s -\n", guest)
}

// Action runs one action of a transfer driver: ACTION DRIVER ARG...; CLONE.ssh is clone.ssh where there is one, else clone. It says why it failed.
func (c Cloud) Action(ctx context.Context, words []string, stdin string) (answer, why string) {
	action := strings.ToLower(words[0])
	path := filepath.Join(c.Remotes, "tm", words[1], action)
	if plain, _, found := strings.Cut(action, "."); found {
		if _, err := os.Stat(path); err != nil {
			path = filepath.Join(c.Remotes, "tm", words[1], plain)
		}
	}
	return c.run(ctx, path, words[2:], stdin)
}

// run runs a program as the user, and says why it failed, if it did.
func (c Cloud) run(ctx context.Context, path string, args []string, stdin string) (answer, why string) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	p := exec.CommandContext(ctx, path, args...)
	p.Dir = c.Home
	p.Env = append([]string{"LANG=C", "HOME=" + c.Home, "PATH=" + filepath.Join(c.Home, "bin") + ":/usr/sbin:/usr/bin:/sbin:/bin"}, c.Env...)
	var out, errs bytes.Buffer
	p.Stdin, p.Stdout, p.Stderr, p.WaitDelay = strings.NewReader(stdin), &out, &errs, time.Second
	p.SysProcAttr = &unix.SysProcAttr{Credential: &syscall.Credential{Uid: c.User, Gid: c.User}, Pdeathsig: unix.SIGKILL}
	if err := p.Run(); err != nil {
		if why = c.message(errs.String()); why == "" {
			why = "-"
		}
		if p.ProcessState == nil {
			why = err.Error()
		}
		return "", why
	}
	return out.String(), ""
}

var logged = regexp.MustCompile(`^(ERROR|INFO|WARN|DEBUG): `)

// message is what a user is shown of an error: all lines that go to no log, glued together, or, before 6.2, what is between the two lines.
func (c Cloud) message(text string) string {
	if c.Marked {
		_, text, _ = strings.Cut(text, "ERROR MESSAGE --8<------\n")
		text, _, _ = strings.Cut(text, "ERROR MESSAGE ------>8--")
		return strings.ReplaceAll(strings.TrimSpace(text), "\n", "")
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !logged.MatchString(line) {
			b.WriteString(strings.TrimSuffix(line, "\n"))
		}
	}
	return b.String()
}
