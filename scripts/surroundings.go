package scripts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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
	if err := allHit(before); err != nil {
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
	s.sandbox.Hits = filepath.Join(s.work, ".injected")
	return nil
}

// allHit says which of a sandbox's faults never came to pass, and forgets the others.
func allHit(before sandbox.Sandbox) error {
	if len(before.Faults) == 0 {
		return nil
	}
	hits, err := os.ReadFile(before.Hits)
	os.Remove(before.Hits)
	if err != nil {
		return errors.New("nothing of what was injected came to pass: no call made such a system call on a file of the scenario or a loop device")
	}
	for _, f := range before.Faults {
		want := []string{"\n" + f.Call + " "}
		for i, n := range f.Only {
			want = append(want[:i], fmt.Sprintf("\n%s %d\n", f.Call, n))
		}
		for _, w := range want {
			if !strings.Contains("\n"+string(hits), w) {
				return fmt.Errorf("no call made the system call %q on a file of the scenario or a loop device: nothing was injected there", strings.TrimSpace(w))
			}
		}
	}
	return nil
}
