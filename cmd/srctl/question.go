package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
)

// errNo says that somebody was asked, and does not want it.
var errNo = errors.New("not confirmed: nothing was changed")

// sure asks whether what cannot be undone is wanted. Where nobody can be asked, and --yes does not answer, it is not.
func (s *session) sure(format string, args ...any) error {
	return s.confirmed(format+", which cannot be undone", args...)
}

// confirmed asks whether what takes long or changes much is wanted.
func (s *session) confirmed(format string, args ...any) error {
	if s.yes {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return fmt.Errorf("this would %s, and nobody can be asked, for standard input is no terminal: nothing was changed: say --yes", what)
	}
	fmt.Fprintf(messages, "This will %s. Go on? [y/N] ", what)
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		fmt.Fprintln(messages)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errNo
}
