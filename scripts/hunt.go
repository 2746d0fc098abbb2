package scripts

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/scripts/owned"
)

// hunt ends the commands that a scenario has running, and what they started, until
// over is closed: they are asked after a second, then made to. Without it a scenario
// that stops in the middle would wait for them.
func (s *script) hunt(over <-chan struct{}) {
	for sig, pause := unix.SIGTERM, time.Second; ; sig, pause = unix.SIGKILL, time.Second {
		select {
		case <-over:
			return
		case <-time.After(pause):
		}
		for _, pid := range owned.Processes(s.isCommand) {
			owned.Signal(pid, sig, s.isCommand)
		}
	}
}

// isCommand says whether a process has the scenario's directory as its $WORK.
func (s *script) isCommand(pid int) bool {
	mark := []byte("\x00WORK=" + s.work + "\x00")
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && bytes.Contains(append([]byte{0}, env...), mark)
}
