package guest

import (
	"crypto/sha512"
	"encoding/binary"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

const rndAddEntropy = 0x40085203 // RNDADDENTROPY, linux/random.h

// seed has the kernel of a machine take its random numbers for random. A kernel before Linux 5.4 waits for what
// happens to a machine by chance, and nothing does to one of the lab. No secret is made here: they need only differ.
func seed() error {
	if _, err := unix.Getrandom(make([]byte, 1), unix.GRND_NONBLOCK); err != unix.EAGAIN {
		return nil
	}
	device, err := os.OpenFile("/dev/random", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	line, _ := os.ReadFile("/proc/cmdline") // the machine's name is in it
	noise := sha512.Sum512(binary.LittleEndian.AppendUint64(line, uint64(time.Now().UnixNano())))
	pool := struct {
		bits, size int32
		noise      [sha512.Size]byte
	}{8 * sha512.Size, sha512.Size, noise}
	return sys.Ioctl(device, rndAddEntropy, unsafe.Pointer(&pool))
}
