package scripts

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
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
		for _, pid := range s.commands() {
			unix.Kill(pid, sig)
		}
	}
}

// commands are the processes that have the scenario's directory as their $WORK.
func (s *script) commands() (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	mark := []byte("WORK=" + s.work + "\x00")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if env, err := os.ReadFile("/proc/" + e.Name() + "/environ"); err == nil && bytes.Contains(append([]byte{0}, env...), append([]byte{0}, mark...)) {
			pids = append(pids, pid)
		}
	}
	return pids
}
