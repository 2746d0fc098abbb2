package program

import (
	"errors"
	"strings"
	"testing"

	"reflinksr/internal/fault"
)

// Programs are started from the places where the system has them.
func TestRunProgram(t *testing.T) {
	status, out, err := Run("coreutils", "sh", "-c", "echo $PATH; echo $HOME >&2; cat; exit 3")
	if err != nil || status != 3 || strings.TrimSpace(out) != strings.Join(programDirs, ":") {
		t.Errorf("%d, %q, %v", status, out, err)
	}
	status, out, err = Run("coreutils", "sh", "-c", "yes | head -c 1000000")
	if err != nil || status != 0 || len(out) != outputLimit {
		t.Errorf("%d, %d bytes, %v", status, len(out), err)
	}
	if _, _, err := Run("the-package", "no-such-program"); !errors.Is(err, fault.ErrUnsuitable) || !strings.Contains(err.Error(), "the-package") {
		t.Errorf("%v", err)
	}
	if _, _, err := Run("x", "../../tmp"); err == nil {
		t.Error("a directory was started")
	}
}
