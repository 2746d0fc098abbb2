package datapath

import (
	"log/slog"
	"os"
	"strconv"
	"syscall"

	"reflinksr/internal/loop"
	"reflinksr/internal/rundir"
)

// A number that was added for a device is removed after it. That takes the kernel some fifty
// milliseconds, for which no guest's end shall wait: a process of its own does it, with
// nothing of ours. What was added is noted, a file for each number, so that also those go
// whose device was still open when it was detached, or whose attach was killed.
const numbersDir = "loop"

// sweepProgram is the name by which a program that has this package in it becomes that
// process. As with looks at disks it is not left to main to ask for it.
const sweepProgram = "reflinksr-sweep"

func init() {
	if len(os.Args) == 1 && os.Args[0] == sweepProgram {
		removeNumbers()
		os.Exit(0)
	}
}

func noteNumber(n int) error {
	dir, err := rundir.Open(numbersDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Publish(strconv.Itoa(n), nil)
}

// sweepNumbers starts the process, if there is anything for it to do, and does not wait for
// it. Where it cannot be started the next one does its work.
func sweepNumbers() {
	dir, err := rundir.Look(numbersDir)
	if err != nil {
		return // nothing was ever added
	}
	names, err := dir.Names()
	dir.Close()
	if err != nil || len(names) == 0 {
		return
	}
	null, err := syscall.Open(os.DevNull, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer syscall.Close(null)
	// Not by package os, which first starts a process to find out what the kernel can tell of one.
	// #nosec G204 -- this program
	_, err = syscall.ForkExec("/proc/self/exe", []string{sweepProgram}, &syscall.ProcAttr{
		Dir: "/", Env: []string{}, Files: []uintptr{uintptr(null), uintptr(null), uintptr(null)}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		slog.Debug("numbers of loop devices stay for now", "err", err)
	}
}

// removeNumbers removes the numbers of devices that have gone.
func removeNumbers() {
	dir, err := rundir.Look(numbersDir)
	if err != nil {
		return
	}
	defer dir.Close()
	names, err := dir.Names()
	if err != nil {
		return
	}
	for _, name := range names {
		n, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if err := loop.RemoveNumber(n); err == nil || os.IsNotExist(err) {
			dir.Remove(name)
		}
	}
}
