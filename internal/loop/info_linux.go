package loop

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Info is what the kernel made of a Config, read back.
type Info struct {
	Size       int64 // bytes
	SectorSize int   // bytes
	DirectIO   bool
	ReadOnly   bool
}

// Info reads the device's properties from sysfs: the request does not tell, the
// kernel drops direct I/O silently.
func (d Device) Info() (Info, error) {
	base := "/sys/block/loop" + strconv.Itoa(d.Number)
	var info Info
	for path, set := range map[string]func(int64){
		"/size":                     func(n int64) { info.Size = n * 512 },
		"/queue/logical_block_size": func(n int64) { info.SectorSize = int(n) },
		"/loop/dio":                 func(n int64) { info.DirectIO = n != 0 },
		"/ro":                       func(n int64) { info.ReadOnly = n != 0 },
	} {
		data, err := os.ReadFile(base + path)
		if err != nil {
			return info, err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		if err != nil {
			return info, err
		}
		set(n)
	}
	return info, nil
}

// BlockNumber is the kernel's number of the block device (st_rdev).
func (d Device) BlockNumber() (number uint64, err error) {
	err = d.with(func(f *os.File, _ *unix.LoopInfo64) error {
		var st unix.Stat_t
		err := unix.Fstat(int(f.Fd()), &st)
		number = st.Rdev
		return err
	})
	return number, err
}

// Binding is how a device is bound to its file, for good.
type Binding struct {
	ReadOnly          bool
	Offset, SizeLimit int64 // bytes; 0 and 0: the whole file
}

// Binding asks the kernel.
func (d Device) Binding() (b Binding, err error) {
	err = d.with(func(_ *os.File, info *unix.LoopInfo64) error {
		b = Binding{info.Flags&unix.LO_FLAGS_READ_ONLY != 0, int64(info.Offset), int64(info.Sizelimit)} // #nosec G115 -- of a file: below 2^63
		return nil
	})
	return b, err
}
