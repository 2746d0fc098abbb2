package database

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// schema makes a database of which a commit is one fsync of its log. The log is copied into
// the database often, so that both are written.
const schema = `PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 100;
CREATE TABLE entry (n INTEGER PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE account (slot INTEGER PRIMARY KEY, entries INTEGER NOT NULL, content BLOB NOT NULL);
WITH RECURSIVE slot (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM slot WHERE n < 60)
INSERT INTO account SELECT n, 0, randomblob(1500) FROM slot;`

// transaction changes pages all over the database.
func transaction(n uint64) string {
	return fmt.Sprintf(`BEGIN IMMEDIATE;
INSERT INTO entry VALUES (%d, randomblob(700));
UPDATE account SET entries = entries + 1, content = randomblob(1500) WHERE slot = %d;
COMMIT;`, n, n*17%61)
}

// write makes transactions until the process ends, and notes what each took.
func write(dir string) (err error) {
	defer func() {
		err = errors.Join(err, note("failed %v", err)) // it does not end otherwise
	}()
	db, err := open(filepath.Join(dir, databaseFile))
	if err != nil {
		return err
	}
	defer db.close()
	if _, err := db.ask(schema); err != nil {
		return err
	}
	acknowledged, err := os.OpenFile(filepath.Join(dir, numberFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer acknowledged.Close()
	if err := unix.Fallocate(int(acknowledged.Fd()), 0, 0, numberAt+4096); err != nil {
		return err
	}
	for n := uint64(1); ; n++ {
		started := time.Now()
		if _, err := db.ask(transaction(n)); err != nil {
			return err
		}
		commit := time.Since(started)
		if _, err := acknowledged.WriteAt(fmt.Appendf(nil, "%*d\n", numberLength, n), numberAt); err != nil {
			return err
		}
		started = time.Now()
		if err := acknowledged.Sync(); err != nil {
			return err
		}
		if err := note("wrote %d %d %d", n, commit.Microseconds(), time.Since(started).Microseconds()); err != nil {
			return err
		}
	}
}

// sqlite is a database that is open.
type sqlite struct {
	program *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
	errs    bytes.Buffer
}

func open(file string) (*sqlite, error) {
	s := &sqlite{program: exec.Command("sqlite3", "-batch", "-bail", file)} // #nosec G204 -- in the guest
	s.program.Stderr = &s.errs
	var err error
	if s.in, err = s.program.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.program.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.out = bufio.NewScanner(out)
	return s, s.program.Start()
}

// done is what no answer of the database is.
const done = "-- done --"

// ask has statements carried out, and returns the lines of their answer.
func (s *sqlite) ask(statements string) (answer []string, err error) {
	if _, err := fmt.Fprintf(s.in, "%s\n.print %s\n", statements, done); err != nil {
		return nil, s.failed(err)
	}
	for s.out.Scan() {
		if s.out.Text() == done {
			return answer, nil
		}
		answer = append(answer, s.out.Text())
	}
	return nil, s.failed(errors.Join(s.out.Err(), io.ErrUnexpectedEOF))
}

// failed says why the program has ended.
func (s *sqlite) failed(err error) error {
	err = errors.Join(err, s.close()) // it has said all that it says
	return fmt.Errorf("sqlite3: %w: %s", err, strings.TrimSpace(s.errs.String()))
}

func (s *sqlite) close() error { return errors.Join(s.in.Close(), s.program.Wait()) }
