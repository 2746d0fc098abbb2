package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/term"

	"reflinksr/cmd/internal/pool"
	"reflinksr/scripts"
)

// shell is srtest shell.
func (o *options) shell() error {
	plugins, err := o.plugins()
	if err != nil {
		return err
	}
	ctx, over := pool.Interruptible()
	defer over()
	c := plugins[0].config()
	c.Own, c.Timeout, c.Context = o.own, o.timeout, ctx
	if err := c.Check(); err != nil {
		return err
	}
	kinds, err := o.kindsOf()
	if err != nil {
		return err
	}
	c.FS = kinds[0]
	sh := &scripts.Shell{Read: reader(os.Stdin, o.out), Out: o.out}
	dir, err := os.MkdirTemp("", "srtest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	running := pool.New(1, false)
	err = running.Run(func(t testscript.T) error { return sh.Run(t, c, dir) })
	running.Wait()
	if err == nil && !sh.Began() {
		err = errors.New("there was no place for a session: is the filesystem of temporary files full?")
	}
	return err
}

// reader reads lines: with editing and a history from a terminal; from elsewhere as
// they are, and shows them.
func reader(in *os.File, out io.Writer) func() (string, error) {
	if !term.IsTerminal(int(in.Fd())) {
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, 16<<20)
		return func() (string, error) {
			if !lines.Scan() {
				return "", io.EOF
			}
			fmt.Fprintln(out, ">", lines.Text())
			return lines.Text(), nil
		}
	}
	terminal := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, os.Stdout}, "> ")
	terminal.AutoCompleteCallback = func(line string, at int, key rune) (string, int, bool) {
		if key != '\t' || at != len(line) {
			return "", 0, false
		}
		verb := strings.TrimPrefix(line, "! ")
		var fits []string
		for _, v := range scripts.Verbs() {
			if strings.HasPrefix(v, verb) {
				fits = append(fits, v)
			}
		}
		if len(fits) != 1 {
			return "", 0, false
		}
		line += fits[0][len(verb):] + " "
		return line, len(line), true
	}
	return func() (string, error) {
		// Raw only while a line is typed: commands find the terminal as it was.
		saved, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return "", err
		}
		defer term.Restore(int(in.Fd()), saved)
		if w, h, err := term.GetSize(int(in.Fd())); err == nil && w > 0 {
			terminal.SetSize(w, h)
		}
		return terminal.ReadLine()
	}
}
