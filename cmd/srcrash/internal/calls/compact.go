package calls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/internal/extent"
	use "reflinksr/internal/repository"
	"reflinksr/internal/smapi"
	"reflinksr/internal/smapi/serve"
)

// CompactCommand is the word by which the running program compacts a volume, as srctl compact does: no call of the
// interface is for that.
const CompactCommand = "compact"

// Compact compacts a volume of an SR's handle, answers as a call does, and returns the exit status.
func Compact(args []string, out io.Writer) int {
	if len(args) != 2 {
		return 2
	}
	v, err := use.ParseVolume(use.SR(args[0]), args[1])
	var answer any
	if err == nil {
		answer, err = v.Compact(context.Background(), 0, func(int64, int64) {})
	}
	if err != nil {
		answer = serve.FailureOf(CompactCommand, err)
	}
	if e := json.NewEncoder(out).Encode(answer); err != nil || e != nil {
		return 1
	}
	return 0
}

// compactMain are the arguments for main.
func compactMain(w *world) []string { return []string{CompactCommand, w.handle("sr"), w.key("main")} }

const self = "/proc/self/exe"

// operate runs a command of the operator, as call makes a call.
func (w *world) operate(args []string) error {
	out, err := exec.Command(self, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		refusal, e := smapi.ParseFailure(out)
		if e != nil {
			return fmt.Errorf("%w: %.300q, %.2000q", err, out, exit.Stderr)
		}
		return fmt.Errorf("%s: %w", args[0], refusal)
	}
	if err != nil {
		return err
	}
	return rig.Succeeded(args[0], out, nil)
}

// worn is track with a main that has extents alone of which it uses only a part, among them one that is in part
// unwritten, and one that is shared by a snapshot that uses all of it.
func (w *world) worn() error {
	err := w.track()
	step := func(do error) { err = errors.Join(err, do) }
	step(w.write("main", 0, 3*block))
	step(w.reserve("main", 5*block, block))
	step(w.derive("passing", "Volume.snapshot", "main"))
	step(w.write("main", 4096, 3*4096))
	step(w.write("main", block, block))
	step(w.write("main", 5*block+4096, 8192))
	step(w.call(rig.OfVolume("Volume.destroy", w.handle("sr"), w.key("passing")), nil))
	delete(w.keys, "passing")
	if u, e := w.usageOf("main"); e != nil || u.Pinned == 0 {
		step(fmt.Errorf("main uses all of its extents: %+v, %w", u, e))
	}
	return err
}

// reserve makes a range of a volume's data read as zeros and have room.
func (w *world) reserve(name string, offset, length int64) error {
	f, err := os.OpenFile(w.data(name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
	return errors.Join(err, f.Sync(), f.Close())
}

func (w *world) usageOf(name string) (u extent.Usage, err error) {
	f, err := os.Open(w.data(name))
	if err != nil {
		return u, err
	}
	defer f.Close()
	return extent.UsageOf(f)
}

// compacted says whether main uses all of its extents, and shares some.
func (w *world) compacted() error {
	u, err := w.usageOf("main")
	if err == nil && (u.Pinned > 0 || u.Shared == 0) {
		err = fmt.Errorf("main occupies %+v after it was compacted", u)
	}
	return err
}
