package database

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// found is what a clone holds.
type found struct {
	integrity       []string // what the database says of itself
	entries, newest uint64   // how many transactions there are, and the number of the newest
	accounted       uint64   // how many the accounts say there are
	acknowledged    uint64   // what the other file says
}

// check judges the clone of a snapshot that was taken in a period: it is a disk after a power cut.
func check(name, device string) error {
	all, err := readNotes()
	if err != nil {
		return err
	}
	p, err := all.period(name)
	if err != nil || !p.over {
		return fmt.Errorf("period %s is not over: %w", name, err)
	}
	dir, err := os.MkdirTemp("", "clone")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	// The filesystem's journal is replayed first.
	if err := errors.Join(mounted(device, dir, func() error { return nil }), clean(device)); err != nil {
		return err
	}
	var f found
	err = mounted(device, dir, func() (err error) {
		f, err = look(dir)
		return err
	})
	if err == nil {
		err = f.judge(*p)
	}
	if err != nil {
		return fmt.Errorf("the snapshot that was taken in period %s: %w", name, err)
	}
	fmt.Printf("%s: whole, with %d transactions; %d were acknowledged before it was asked for\n", name, f.newest, p.before)
	return clean(device)
}

func mounted(device, dir string, do func() error) error {
	if err := unix.Mount(device, dir, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mounting %s: %w", device, err)
	}
	return errors.Join(do(), unix.Unmount(dir, 0))
}

func clean(device string) error {
	if out, err := exec.Command("e2fsck", "-fn", device).CombinedOutput(); err != nil { // #nosec G204 -- in the guest
		return fmt.Errorf("e2fsck -fn %s: %w: %s", device, err, out)
	}
	return nil
}

// look opens the database as after a crash: its log is replayed.
func look(dir string) (f found, err error) {
	db, err := open(filepath.Join(dir, databaseFile))
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	if f.integrity, err = db.ask("PRAGMA integrity_check;"); err != nil {
		return f, err
	}
	for statement, n := range map[string]*uint64{
		"SELECT count(*) FROM entry;":       &f.entries,
		"SELECT max(n) FROM entry;":         &f.newest,
		"SELECT sum(entries) FROM account;": &f.accounted,
	} {
		answer, err := db.ask(statement)
		if err != nil {
			return f, err
		}
		if *n, err = strconv.ParseUint(strings.Join(answer, " "), 10, 64); err != nil {
			return f, fmt.Errorf("%s %w", statement, err)
		}
	}
	file, err := os.Open(filepath.Join(dir, numberFile))
	if err != nil {
		return f, err
	}
	defer file.Close()
	text := make([]byte, numberLength)
	if _, err := file.ReadAt(text, numberAt); err != nil {
		return f, err
	}
	f.acknowledged, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return f, err
}

// judge says what is wrong with what was found.
func (f found) judge(p period) error {
	switch {
	case !slices.Equal(f.integrity, []string{"ok"}):
		return fmt.Errorf("the database is damaged: %s", strings.Join(f.integrity, "; "))
	case f.entries != f.newest || f.accounted != f.newest:
		return fmt.Errorf("its newest transaction is %d, and it has %d of them, %d by its accounts", f.newest, f.entries, f.accounted)
	case f.newest < p.before:
		return fmt.Errorf("its newest transaction is %d, and %d was acknowledged before it was asked for", f.newest, p.before)
	case f.newest > p.last:
		return fmt.Errorf("its newest transaction is %d, and %d was the newest when it had been answered", f.newest, p.last)
	case f.acknowledged != f.newest && f.acknowledged+1 != f.newest:
		return fmt.Errorf("it is no moment of the disk: the database has transaction %d, and another file says that %d is the newest", f.newest, f.acknowledged)
	}
	return nil
}
