package opennebula

import (
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"reflinksr/internal/fault"
)

// limit is how many bytes a dump may have, as it comes.
const limit = 16 << 20

// Call is one action of a driver.
type Call struct {
	Driver  string   // datastore or tm: which of the two
	Name    string   // the driver's, by which OpenNebula knows it
	Action  string   // cp, clone …
	Remotes string   // the directory in which the drivers are
	Args    []string // what follows the name of the program
	Stdin   io.Reader
}

// NewCall tells the action by the name of the program: REMOTES/datastore/DRIVER/ACTION or REMOTES/tm/DRIVER/ACTION. A suffix after a dot is
// the system datastore's driver and of no concern.
func NewCall(args []string, stdin io.Reader) (Call, error) {
	path, err := filepath.Abs(args[0])
	if err != nil {
		return Call{}, err
	}
	action, _, _ := strings.Cut(filepath.Base(path), ".")
	dir := filepath.Dir(path)
	c := Call{Driver: filepath.Base(filepath.Dir(dir)), Name: filepath.Base(dir), Action: action, Remotes: filepath.Dir(filepath.Dir(dir)), Args: args[1:], Stdin: stdin}
	if c.Driver != "datastore" && c.Driver != "tm" {
		return c, fault.Hint(fault.Errorf(fault.ErrInvalid, path, "it was called by the name %q, which is no action of a driver", fault.Shorten(path)),
			"OpenNebula's drivers are below remotes/datastore and remotes/tm")
	}
	return c, nil
}

// Arg is an argument by its number, from 0.
func (c Call) Arg(i int) (string, error) {
	if i >= len(c.Args) || c.Args[i] == "" {
		return "", fault.Errorf(fault.ErrInvalid, c.Action, "argument %d is missing: there are %d", i+1, len(c.Args))
	}
	return c.Args[i], nil
}

// Dump is the XML that comes with an action: in the first argument (up to 6.6 and where oned is not told otherwise), or on standard input with "-" for
// the first argument, or with nothing but the number of what it is about (since 6.8). It answers that number as well.
func (c Call) Dump() (Dump, string, error) {
	if len(c.Args) == 0 {
		return Dump{}, "", fault.Errorf(fault.ErrInvalid, c.Action, "it was called without an argument: the number of what it is about is missing")
	}
	id := c.Args[len(c.Args)-1]
	if len(c.Args) > 1 && c.Args[0] != "-" {
		d, err := parseDump(c.Args[0])
		return d, c.Args[1], err
	}
	text, err := c.input()
	if err != nil {
		return Dump{}, id, err
	}
	d, err := parseDump(text)
	return d, id, err
}

func (c Call) input() (string, error) {
	data, err := io.ReadAll(io.LimitReader(c.Stdin, limit+1))
	if err != nil {
		return "", err
	}
	if len(data) > limit {
		return "", fault.Errorf(fault.ErrInvalid, "dump", "there are more than %d bytes on standard input", limit)
	}
	return string(data), nil
}

// VM is the guest's XML that comes with an action: in base64 or as it is, on standard input, or in the sixth argument (up to 5.8). It is nil where none
// comes.
func (c Call) VM() (*VM, string, error) {
	if len(c.Args) > 5 {
		if text, err := base64.StdEncoding.DecodeString(c.Args[5]); err == nil && strings.HasPrefix(strings.TrimSpace(string(text)), "<VM>") {
			vm, err := ParseVM(text)
			return vm, c.Args[5], err
		}
	}
	text, err := c.input()
	if err != nil || strings.TrimSpace(text) == "" {
		return nil, text, err
	}
	xml := []byte(text)
	if !strings.HasPrefix(strings.TrimSpace(text), "<") {
		if xml, err = decode(text); err != nil {
			return nil, text, err
		}
	}
	vm, err := ParseVM(xml)
	return vm, text, err
}

func decode(text string) ([]byte, error) {
	if len(text) > limit {
		return nil, fault.Errorf(fault.ErrInvalid, "dump", "the dump has more than %d bytes", limit)
	}
	text = strings.Join(strings.Fields(text), "")
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fault.Errorf(fault.ErrInvalid, "dump", "the dump is not base64: %w", err)
	}
	return data, nil
}

// marked says whether an error is to stand between two lines: releases before 6.2 show no other.
func (c Call) marked() bool {
	data, err := os.ReadFile(filepath.Join(c.Remotes, "VERSION")) // #nosec G304 -- beside the driver
	if err != nil {
		return false
	}
	parts := strings.Split(strings.TrimSpace(string(data)), ".")
	if len(parts) < 2 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (major < 6 || major == 6 && minor < 2)
}

// Tell writes an error as oned shows it: one line, in the form of its release.
func (c Call) Tell(w io.Writer, err error) {
	text := OneLine(fault.In(c.Driver+"/"+c.Name+"/"+c.Action, err).Error())
	if c.marked() {
		text = "ERROR MESSAGE --8<------\n" + text + "\nERROR MESSAGE ------>8--"
	}
	io.WriteString(w, text+"\n")
}

// OneLine is a text that does nothing to a terminal, a log or oned's protocol.
func OneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, strings.ReplaceAll(strings.TrimSpace(text), "\n", "; "))
}
