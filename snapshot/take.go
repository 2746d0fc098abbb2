package snapshot

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/loop"
	"reflinksr/internal/procs"
	"reflinksr/internal/reflink"
	"reflinksr/internal/track"
	"reflinksr/snapshot/precopy"
)

// take makes the empty file f what the disk holds at one moment: while a guest writes, if it would
// feel FICLONE; else by that.
func (d disk) take(f *os.File) error {
	if len(d.devices) != 1 {
		return reflink.CloneFile(f, d.data)
	}
	stall, err := d.stall()
	if err != nil {
		return err
	}
	if stall <= tolerable {
		return reflink.CloneFile(f, d.data)
	}
	if err := d.onlyByDevice(); err != nil {
		slog.Warn("the disk is cloned at once, which holds up its guest", "key", d.key, "expected", stall, "why", err)
		return reflink.CloneFile(f, d.data)
	}
	// EINVAL: there are files that only CloneFile can clone, which tries without checksums as well.
	err = d.takeInUse(f, stall)
	if !precopy.IsNoMoment(err) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	slog.Warn("the disk is cloned at once, which holds up its guest", "key", d.key, "expected", stall, "why", err)
	return d.takeAtOnce(f)
}

// takeInUse is take of a disk that one device of this host has.
func (d disk) takeInUse(f *os.File, stall time.Duration) error {
	if err := track.Able(); err != nil {
		return err // before a long clone of the newest snapshot
	}
	device := d.devices[0]
	number, err := device.BlockNumber()
	if err != nil {
		return fmt.Errorf("%w: %w", precopy.ErrGaveUp, err)
	}
	info, err := device.Info()
	if err != nil {
		return fmt.Errorf("%w: %w", precopy.ErrGaveUp, err)
	}
	binding, err := device.Binding()
	if err != nil {
		return fmt.Errorf("%w: %w", precopy.ErrGaveUp, err)
	}
	if binding.Offset != 0 {
		return fmt.Errorf("%w: %s is bound to a part of its file", precopy.ErrGaveUp, device.Path())
	}
	if xfs := d.sr.Meta.Filesystem.Type == "xfs"; xfs && info.DirectIO && !hostinfo.ThisKernel().AtLeast(5, 4) {
		// An older version has attached it. A clone locks the file only against clones there.
		return fmt.Errorf("%w: %s has direct I/O, with which no clone on XFS before Linux 5.4 is sure to be a moment; attach the disk again", precopy.ErrGaveUp, device.Path())
	}
	if unchecked, err := reflink.Unchecked(d.data); err == nil && unchecked {
		if err := (reflink.Attributes{NoCOW: true}).Apply(f); err != nil {
			return err
		}
	}
	base, err := d.cloneNewest(f)
	if err != nil {
		return err
	}
	result, err := precopy.Take(f, precopy.Disk{File: d.data, Device: number, Buffered: !info.DirectIO, Begun: base != "", Stall: stall, Progress: procs.Progress})
	if err != nil {
		return err
	}
	// What was cloned is a moment of this device's disk. It counts if that is the whole of the volume's still: all loop devices of the
	// host are looked at for that, also for one that another program has bound besides.
	now, err := lease.Devices(d.sr, d.key, d.st)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(now, d.devices, sameDevice) {
		return fmt.Errorf("%w: it was attached anew meanwhile", precopy.ErrGaveUp)
	}
	if err := d.onlyByDevice(); err != nil {
		return err
	}
	slog.Info("the disk was cloned while it was in use", "key", d.key, "took", result.Took, "expected_at_once", stall,
		"from", base, "pieces", result.Pieces, "rounds", result.Rounds, "cloned_again", result.Again, "longest_clone", result.Longest, "percentile_99", result.P99)
	return nil
}

// onlyByDevice refuses a disk to whose file dom0 may write, past the device and what is told of its writes. One that dom0 had, and has closed
// again, precopy sees by itself.
func (d disk) onlyByDevice() error {
	note, err := lease.NoteOf(d.sr, d.key)
	switch {
	case err != nil:
		return fmt.Errorf("%w: what is attached of it cannot be read: %w", precopy.ErrGaveUp, err)
	case note.InDom0():
		return fmt.Errorf("%w: dom0 has its file", precopy.ErrGaveUp)
	}
	return nil
}

// sameDevice says whether two looks at a device saw the same one. Its file may have been renamed between them.
func sameDevice(a, b loop.Device) bool {
	return a.Same(b) && a.Sequence == b.Sequence && (a.Sequence != 0 || a.Name == b.Name)
}

// takeAtOnce clones the disk onto what is there of it in f. XFS passes over what is equal (Linux 5.9), and
// is done sooner. Elsewhere it would first have to let go of it, with the disk locked.
func (d disk) takeAtOnce(f *os.File) error {
	if d.sr.Meta.Filesystem.Type != "xfs" || !hostinfo.ThisKernel().AtLeast(5, 9) {
		if err := f.Truncate(0); err != nil {
			return err
		}
	}
	return reflink.CloneFile(f, d.data)
}
