package sys

import (
	"time"
)

// busyTimeout bounds the wait for others that are about to let go: a probe that has the
// filesystem mounted read-only for a moment, a call that has a file open.
const busyTimeout = 3 * time.Second

// Insist repeats what fails with that errno, for busyTimeout.
func Insist(errno error, do func() error) error {
	deadline := time.Now().Add(busyTimeout)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := Do(do)
		if err != errno || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}
