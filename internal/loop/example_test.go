package loop_test

import (
	"fmt"
	"log"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"reflinksr/internal/loop"
)

// A file becomes a block device, is found by what it is and not by its name, and becomes
// a file again. It needs root, so it is only compiled.
func Example() {
	file, err := os.OpenFile("/srv/disk.raw", os.O_RDWR, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	device, err := loop.Attach(loop.Config{File: file, SectorSize: 512})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the disk is", device.Path())

	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		log.Fatal(err)
	}
	found, err := loop.Find(st.Dev, st.Ino, file.Name())
	if err != nil || !slices.Contains(found, device) {
		log.Fatal(found, err)
	}
	// Whoever still has it open keeps it until the last close.
	if err := device.Release(); err != nil {
		log.Fatal(err)
	}
}

// A number is all that a device is called by.
func ExampleDevice_Path() {
	fmt.Println(loop.Device{Number: 7}.Path())
	// Output: /dev/loop7
}
