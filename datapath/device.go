package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/layout"
	"reflinksr/internal/loop"
	"reflinksr/internal/reflink"
	"reflinksr/internal/sys"
	"reflinksr/sr"
	"reflinksr/volume"
)

// reuse takes the device that the file already has, if it is as it must be. One
// that is not so, and that no domain has, is replaced: it was not made by us, or
// under other circumstances.
func (v *session) reuse(d loop.Device, want loop.Info, inUse bool) (loop.Device, bool, error) {
	// It may be waiting for its last close. Kept, it cannot become another's while
	// we look at it.
	err := d.Keep()
	if errors.Is(err, loop.ErrGone) {
		return d, false, nil
	}
	if err != nil {
		return d, false, err
	}
	have, err := d.Info()
	if err != nil {
		return d, false, err
	}
	bound, err := d.Binding()
	if err != nil {
		return d, false, err
	}
	switch fits(have, bound, want, inUse) {
	case asItIs:
		return d, true, nil
	case resized:
		return d, true, d.UpdateSize()
	case replaced:
		gone, err := d.Detach()
		if gone || err != nil {
			return d, false, err
		}
	}
	return d, false, fault.Hint(fault.Errorf(fault.ErrInUse, string(v.key), "volume %s is in use: %s is bound to it in another way (offset %d, size limit %d, sectors of %d bytes, direct I/O %v)", v.key, d.Path(), bound.Offset, bound.SizeLimit, have.SectorSize, have.DirectIO),
		"detach that (losetup -d)")
}

// fitness is what is to be done with a device that a file already has.
type fitness int

const (
	refused  fitness = iota // domains have it, and it is not as it must be
	asItIs                  // taken
	resized                 // taken, and told that its file has another size
	replaced                // nobody has it, so it goes
)

// fits says what is to be done with a device that is like have and bound, where one like want is needed. inUse: domains
// have it. What one that is in use was made for cannot be asked any more; of the rest only sectors and place matter.
func fits(have loop.Info, bound loop.Binding, want loop.Info, inUse bool) fitness {
	whole := bound.Offset == 0 && bound.SizeLimit == 0
	alike := inUse || bound.ReadOnly == want.ReadOnly && have.DirectIO == want.DirectIO
	switch {
	case !whole || have.SectorSize != want.SectorSize || !alike:
		if inUse {
			return refused
		}
		return replaced
	case have.Size != want.Size:
		return resized
	}
	return asItIs
}

// bind makes a new device and verifies what the kernel made of it.
func (v *session) bind(f *os.File, want loop.Info) (loop.Device, error) {
	d, err := loop.Attach(v.config(f, want))
	if err != nil {
		return d, fmt.Errorf("volume %s: %w", v.key, err)
	}
	return d, v.verify(d, want)
}

// config is how a file of the volume becomes a device.
func (v *session) config(f *os.File, want loop.Info) loop.Config {
	return loop.Config{
		File: f, ReadOnly: want.ReadOnly, SectorSize: want.SectorSize, DirectIO: want.DirectIO, Name: layout.LoopMark + string(v.key), Added: noteNumber,
	}
}

// verify unbinds a new device that is not what it must be.
func (v *session) verify(d loop.Device, want loop.Info) error {
	have, err := d.Info()
	if err == nil && (have.SectorSize != want.SectorSize || have.Size != want.Size || have.ReadOnly != want.ReadOnly) {
		err = fmt.Errorf("volume %s: the kernel made %s as %+v, needed is %+v", v.key, d.Path(), have, want)
	}
	if err != nil {
		d.Detach()
		return err
	}
	tellDirectIO(d, want.DirectIO, have)
	return nil
}

// wanted is what the device of a file must be like. A device has whole units of 512 bytes: where an adopted file of another
// length cannot be rounded up, as on a read-only filesystem, its last bytes cannot be shown.
func wanted(s *sr.SR, f *os.File, r *volume.Record, size int64, writable bool) (loop.Info, error) {
	checksums := false
	if s.Meta.Filesystem.Type == "btrfs" {
		attrs, err := reflink.AttributesOf(f)
		if err != nil {
			return loop.Info{}, err
		}
		checksums = !attrs.NoCOW
	}
	dio := directIO(disk{s.Meta.Filesystem.Type, checksums, r.SectorSize, hostinfo.ThisKernel()})
	return loop.Info{Size: size - size%512, SectorSize: r.SectorSize, DirectIO: dio, ReadOnly: !writable}, nil
}

func identify(f *os.File) (dev, ino uint64, size int64, err error) {
	st, err := sys.Fstat(f)
	if err != nil {
		return 0, 0, 0, err
	}
	return st.Dev, st.Ino, st.Size, nil
}

// remember notes which device it is. That of which file it is is noted already, and is
// enough for as long as that file can be looked at.
func (v *session) remember(d loop.Device) {
	v.state.Number, v.state.Instance = d.Number, d.Instance
	if err := v.save(); err != nil {
		slog.Warn("which device a volume has is not noted", "key", v.key, "device", d.Path(), "err", err)
	}
}
