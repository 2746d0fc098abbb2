package scripts

import (
	"path/filepath"
	"strconv"

	"reflinksr/scripts/sandbox"
)

// kernel chooses what calls find.
func (s *script) kernel(_ bool, args []string) error {
	if len(args) != 1 || args[0] != "4.19" && args[0] != "current" {
		return usage("kernel")
	}
	s.sandbox.Kernel419 = args[0] == "4.19"
	return nil
}

// limit bounds what calls may have.
func (s *script) limit(_ bool, args []string) error {
	if len(args) == 1 && args[0] == "off" {
		s.sandbox.NoFile = 0
		return nil
	}
	if len(args) != 2 || args[0] != "nofile" {
		return usage("limit")
	}
	n, err := strconv.ParseUint(args[1], 10, 16)
	if err != nil || n == 0 {
		return usage("limit")
	}
	s.sandbox.NoFile = n
	return nil
}

// inject has system calls of the calls that follow fail. What was injected before ends
// and must have come to pass: a scenario would prove nothing otherwise.
func (s *script) inject(_ bool, args []string) error {
	before := s.sandbox
	s.sandbox.Faults = nil
	if err := before.Missed(); err != nil {
		return err
	}
	if len(args) == 1 && args[0] == "off" {
		return nil
	}
	if len(args) < 2 {
		return usage("inject")
	}
	var faults []sandbox.Fault
	for _, arg := range args[1:] {
		f, err := sandbox.ParseFault(args[0], arg)
		if err != nil {
			return err
		}
		faults = append(faults, f)
	}
	s.sandbox.Faults = faults
	s.sandbox.Below = []string{s.work + "/", "/dev/loop"}
	s.sandbox.Dirs = nil
	if sr := s.ts.Getenv("SR_PATH"); sr != "" {
		s.sandbox.Dirs = []string{sr + "/.reflinksr", sr}
	}
	s.sandbox.Hits = filepath.Join(s.work, ".injected")
	return nil
}
