package hostinfo

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Kernel is a version of Linux. The zero value is one that nobody could tell, and before all others.
type Kernel struct{ Major, Minor int }

// ThisKernel asks for the version of the running kernel.
func ThisKernel() Kernel {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return Kernel{}
	}
	return kernelOf(unix.ByteSliceToString(name.Release[:]))
}

// kernelOf reads a release, such as 4.19.0+1 or 6.18.44.
func kernelOf(release string) (k Kernel) {
	if _, err := fmt.Sscanf(release, "%d.%d", &k.Major, &k.Minor); err != nil {
		return Kernel{}
	}
	return k
}

func (k Kernel) String() string { return fmt.Sprintf("%d.%d", k.Major, k.Minor) }

// AtLeast says whether it is that version, or a later one.
func (k Kernel) AtLeast(major, minor int) bool {
	return k.Major > major || k.Major == major && k.Minor >= minor
}
