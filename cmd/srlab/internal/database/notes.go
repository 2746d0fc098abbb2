package database

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// notesFile is in the guest's memory. Whoever notes something appends a line: the order of the
// lines is that in which things happened, by one clock, whatever the host's says.
const notesFile = "/run/database"

func note(format string, args ...any) error {
	f, err := os.OpenFile(notesFile, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, format+"\n", args...)
	return errors.Join(err, f.Close())
}

// period is a time in which something may hold up transactions.
type period struct {
	name         string
	before, last uint64        // transactions: the newest when it began, and when it ended
	count        int           // of those that were done in it, the first may have been begun before
	commit       time.Duration // the longest, which is one fsync of the database's log
	fsync        time.Duration // the longest of the file beside it
	over         bool
}

// notes are what was noted until now.
type notes struct {
	newest  uint64 // acknowledged transaction
	periods []*period
}

// readNotes fails if the writer did.
func readNotes() (notes, error) {
	f, err := os.Open(notesFile)
	if err != nil {
		return notes{}, err
	}
	defer f.Close()
	return parseNotes(f)
}

func parseNotes(r io.Reader) (all notes, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		what, rest, _ := strings.Cut(lines.Text(), " ")
		switch what {
		case "wrote":
			err = all.wrote(rest)
		case "begin":
			all.periods = append(all.periods, &period{name: rest, before: all.newest})
		case "end":
			p, e := all.period(rest)
			if err = e; err == nil {
				p.last, p.over = all.newest, true
			}
		case "failed":
			err = fmt.Errorf("the database's writer failed: %s", rest)
		default:
			err = fmt.Errorf("a note that nobody makes: %q", lines.Text())
		}
		if err != nil {
			return all, err
		}
	}
	return all, lines.Err()
}

// wrote counts a transaction in all periods that it ended in.
func (all *notes) wrote(rest string) error {
	var n uint64
	var commit, fsync int64
	if _, err := fmt.Sscanf(rest, "%d %d %d", &n, &commit, &fsync); err != nil || n != all.newest+1 {
		return fmt.Errorf("transaction %q after %d", rest, all.newest)
	}
	all.newest = n
	for _, p := range all.periods {
		if p.over {
			continue
		}
		p.count++
		p.commit = max(p.commit, time.Duration(commit)*time.Microsecond)
		p.fsync = max(p.fsync, time.Duration(fsync)*time.Microsecond)
	}
	return nil
}

func (all *notes) period(name string) (*period, error) {
	for _, p := range all.periods {
		if p.name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("no period %s has begun", name)
}

// begin notes that a period begins. Something was acknowledged before.
func begin(name string) error {
	if _, err := await(1); err != nil {
		return err
	}
	return note("begin %s", name)
}

// end notes that a period ends, after so many more transactions: what was held up in it is done
// in it.
func end(name string, more int) error {
	all, err := readNotes()
	if err != nil {
		return err
	}
	if _, err := all.period(name); err != nil {
		return err
	}
	if _, err := await(all.newest + uint64(more)); err != nil { // #nosec G115 -- not negative
		return err
	}
	return note("end %s", name)
}

// patience is for how long a transaction may be waited for where the processor is emulated twice.
const patience = 100 * time.Second

// await waits until a transaction is acknowledged.
func await(n uint64) (notes, error) {
	last, since := uint64(0), time.Now()
	for {
		all, err := readNotes()
		if err != nil && !errors.Is(err, os.ErrNotExist) || err == nil && all.newest >= n {
			return all, err
		}
		if all.newest > last {
			last, since = all.newest, time.Now()
		}
		if time.Since(since) > patience {
			return all, fmt.Errorf("no transaction was acknowledged for %v, after %d", patience, last)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// report tells what the guest felt in each period.
func report() error {
	all, err := readNotes()
	if err != nil {
		return err
	}
	for _, p := range all.periods {
		if !p.over {
			return fmt.Errorf("period %s is not over", p.name)
		}
		fmt.Printf("%s: longest commit %v, longest fsync of the file beside it %v, in %d transactions\n", p.name, p.commit.Round(time.Millisecond), p.fsync.Round(time.Millisecond), p.count)
	}
	return nil
}
