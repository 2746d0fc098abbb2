// Package database keeps a guest of the lab busy with a small database (SQLite, on a filesystem
// with a journal), so that it can be told what the guest feels of a snapshot and what the snapshot holds.
//
// Transactions have numbers, from 1. Each is committed durably; then its number is written to
// another file, with fsync; then the next one begins. So at any moment the database has all up to a number,
// and the file that number or the one before it: two files, each with its own way to the disk.
package database

import (
	"errors"
	"strconv"
)

// Where things are on the filesystem.
const (
	databaseFile = "database"
	numberFile   = "acknowledged"
	// The number is so far behind the database, in a file that has its place from the beginning on.
	// Somebody who copies the disk from front to back, which takes a while, finds it newer.
	numberAt     = 64 << 20
	numberLength = 20
)

const usage = `usage: database write DIR            make transactions until the process ends
       database begin NAME           a period begins
       database end NAME N           it ends after N more transactions
       database report               the longest commit and fsync of each period
       database check NAME DEVICE    a clone of a snapshot that was taken in a period is whole`

// Main is a program for the guest.
func Main(args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	switch what, args := args[0], args[1:]; {
	case what == "write" && len(args) == 1:
		return write(args[0])
	case what == "begin" && len(args) == 1:
		return begin(args[0])
	case what == "end" && len(args) == 2:
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 {
			return errors.New(usage)
		}
		return end(args[0], n)
	case what == "report" && len(args) == 0:
		return report()
	case what == "check" && len(args) == 2:
		return check(args[0], args[1])
	}
	return errors.New(usage)
}
