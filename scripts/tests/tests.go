// Package tests is what the tests of all packages have in common: which of them the quick
// command leaves to the long one, when they must end, and where they tell what they do.
//
// "go test ./..." keeps what a test prints to itself until the package has ended, and of one
// that passed for good. So what somebody should know who waits, or who took a skipped test for a
// passed one, is said where go test itself prints its errors; see Tell.
package tests

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// All says whether everything is to run: with REFLINKSR_TESTS=all in the environment, or if
// somebody asked for tests by name (go test -run). With REFLINKSR_TESTS=NUMBER nothing is left
// out for good: what takes longest runs in parts, another with every number; see Part and
// Turn. Else what takes longer is left out.
func All() bool {
	_, inParts := number()
	return whole() || inParts
}

// whole says whether nothing runs in parts.
func whole() bool {
	if run := flag.Lookup("test.run"); run != nil && run.Value.String() != "" {
		return true
	}
	return os.Getenv("REFLINKSR_TESTS") == "all"
}

// number says which of the parts are due.
func number() (n int, inParts bool) {
	n, err := strconv.Atoi(os.Getenv("REFLINKSR_TESTS"))
	return n, err == nil && n >= 0 && !whole()
}

// Share is how much of something a test does: less by the quick command.
func Share[T any](quick, all T) T {
	if All() {
		return all
	}
	return quick
}

// Long skips a test that takes longer than fits before every change, unless All run.
func Long(t testing.TB) {
	t.Helper()
	if !All() {
		Skip(t, "it takes long: make long runs it (REFLINKSR_TESTS=all)")
	}
}

// Root skips a test that needs root to do what is said.
func Root(t testing.TB, toDo string) {
	t.Helper()
	if os.Getuid() != 0 {
		Skip(t, toDo+" needs root")
	}
}

// Skip is t.Skip, and tells it also if go test is not verbose.
func Skip(t testing.TB, why ...any) {
	t.Helper()
	if !testing.Verbose() {
		Tell("%s skipped: %s", t.Name(), fmt.Sprint(why...))
	}
	t.Skip(why...)
}

// Context ends a little before go test ends the test without asking (-timeout), so that there
// is time to clean up and to say what it was that took so long.
func Context(t *testing.T) context.Context {
	t.Helper()
	end, limited := t.Deadline()
	if !limited {
		return t.Context()
	}
	before := min(time.Until(end)/10, time.Minute)
	ctx, cancel := context.WithDeadlineCause(context.Background(), end.Add(-before),
		fmt.Errorf("the time that go test has for a package (-timeout) is nearly over, %v before it is", before.Round(time.Second)))
	t.Cleanup(cancel)
	return ctx
}

// Waiting has twice as many tests run beside one another as there are processors, for those
// that wait for disks; go test -parallel overrules it. TestMain calls it first.
func Waiting() {
	flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
}

// Turn picks what runs on the turn-th of two filesystems: every other one, so that each runs on
// one of them. In parts it is on the other with the next number. If the whole runs, each runs on both.
func Turn[T any](of []T, turn int) (picked []T) {
	n, _ := number()
	for i, one := range of {
		if whole() || (i+n)%2 == turn {
			picked = append(picked, one)
		}
	}
	return picked
}

// EveryOther is Turn, but in parts each runs only with every other number: on one of the filesystems, then on the other.
func EveryOther[T any](of []T, turn int) (picked []T) {
	n, _ := number()
	for i, one := range of {
		if whole() || (i+n)%4 == 2*turn {
			picked = append(picked, one)
		}
	}
	return picked
}

// Part says which of n parts runs, the k-th from 1: of one part the first if the whole runs. In
// parts it is another with every number, after n of them each has been.
func Part(n int) (k, parts int) {
	if whole() {
		return 1, 1
	}
	due, _ := number()
	return due%n + 1, n
}

// Due picks those that the part of n has.
func Due[T any](of []T, n int) (picked []T) {
	k, parts := Part(n)
	for i := k - 1; i < len(of); i += parts {
		picked = append(picked, of[i])
	}
	return picked
}
