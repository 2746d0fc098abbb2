package main

import (
	"testing"
	"time"
)

func TestManual(t *testing.T) {
	const usage = `usage: prog run [-x] [FILE...]
              runs it;
              twice
       prog version                tell which
                                   build this is
       prog wrap DIR, prog unwrap DIR

FILE is
  -volume DIR     a directory \ or
                  .several
  -x              more
With several, all.

  -last           one
`
	const want = `.TH PROG 8 "2026-01-02" "reflinksr 1.2-3"
.SH NAME
prog \- an example (of some\-thing)
.SH USAGE
.TP
.B prog run [\-x] [FILE...]
runs it;
twice
.TP
.B prog version
tell which
build this is
.TP
.B prog wrap DIR, prog unwrap DIR
.PP
FILE is
.TP
.B \-volume DIR
a directory \e or
\&.several
.TP
.B \-x
more
.PP
With several, all.
.TP
.B \-last
one
`
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if got := manual("prog", "8", "1.2-3", at, "Command prog is an example (of some-thing).", usage); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// The time of the sources is told by the environment, or else by git; nothing else will do.
func TestSourceTime(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	if at, err := sourceTime(); err != nil || at.Format(time.RFC3339) != "2023-11-14T22:13:20Z" {
		t.Errorf("%v, %v", at, err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	if at, err := sourceTime(); err == nil {
		t.Errorf("yesterday is %v", at)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "")
	t.Chdir(t.TempDir())
	if at, err := sourceTime(); err == nil {
		t.Errorf("without sources: %v", at)
	}
}
