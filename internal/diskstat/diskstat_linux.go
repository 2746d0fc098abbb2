// Package diskstat reads what the kernel counts of block devices, and tells what they did between two readings.
package diskstat

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sector is the unit of the kernel's counters, whatever the sectors of the device.
const sector = 512

// Counters are what the kernel has counted of a block device; or of several; or between two readings.
type Counters struct {
	Reads, Writes         uint64 // requests that are done
	ReadBytes, WriteBytes uint64
	ReadTime, WriteTime   time.Duration // how long those took, one after the other
	InFlight              uint64        // requests at this moment
}

// Of reads the counters of the block device with that name of the kernel's ("loop3"): os.ErrNotExist if there is none.
func Of(name string) (Counters, error) {
	path := "/sys/block/" + name + "/stat"
	text, err := os.ReadFile(path)
	if err != nil {
		return Counters{}, err
	}
	c, err := parse(string(text))
	if err != nil {
		return Counters{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// parse reads a stat file (the kernel's Documentation/block/stat.rst). Newer kernels have more columns.
func parse(text string) (c Counters, err error) {
	columns := strings.Fields(text)
	if len(columns) < 9 {
		return c, fmt.Errorf("%d columns, of at least 9", len(columns))
	}
	var n [9]uint64
	for i := range n {
		if n[i], err = strconv.ParseUint(columns[i], 10, 64); err != nil {
			return c, fmt.Errorf("column %d: %w", i+1, err)
		}
	}
	ms := func(n uint64) time.Duration { return time.Duration(n) * time.Millisecond } // #nosec G115 -- 290,000 years
	return Counters{
		Reads: n[0], ReadBytes: n[2] * sector, ReadTime: ms(n[3]),
		Writes: n[4], WriteBytes: n[6] * sector, WriteTime: ms(n[7]),
		InFlight: n[8],
	}, nil
}

// NameOf is the kernel's name of the block device with these numbers: os.ErrNotExist if there is none.
func NameOf(major, minor uint32) (string, error) {
	link, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor))
	return filepath.Base(link), err
}

// NameAt is the kernel's name of the block device at a path.
func NameAt(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", fmt.Errorf("%s is no block device: %w", path, os.ErrNotExist)
	}
	return NameOf(unix.Major(st.Rdev), unix.Minor(st.Rdev))
}

// add counts another device as well.
func (c Counters) add(o Counters) Counters {
	return Counters{
		c.Reads + o.Reads, c.Writes + o.Writes, c.ReadBytes + o.ReadBytes, c.WriteBytes + o.WriteBytes,
		c.ReadTime + o.ReadTime, c.WriteTime + o.WriteTime, c.InFlight + o.InFlight,
	}
}

// since is what was counted after before. Counters that went back are another device's: nothing is known of it yet.
func (c Counters) since(before Counters) Counters {
	if c.Reads < before.Reads || c.Writes < before.Writes || c.ReadBytes < before.ReadBytes || c.WriteBytes < before.WriteBytes ||
		c.ReadTime < before.ReadTime || c.WriteTime < before.WriteTime {
		return Counters{InFlight: c.InFlight}
	}
	return Counters{
		c.Reads - before.Reads, c.Writes - before.Writes, c.ReadBytes - before.ReadBytes, c.WriteBytes - before.WriteBytes,
		c.ReadTime - before.ReadTime, c.WriteTime - before.WriteTime, c.InFlight,
	}
}
