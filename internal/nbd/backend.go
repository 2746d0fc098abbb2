package nbd

import "errors"

// ErrNotFast is what Backend.Zero answers if it was to be fast and cannot be faster than writing.
var ErrNotFast = errors.New("zeroing is not faster than writing here")

// Backend is a disk that a Server serves. All its methods are called by many goroutines at once, and with stretches that lie
// within its size and are not empty. An error that wraps a unix.Errno of the protocol is passed on with that, any other is EIO.
type Backend interface {
	// Size is the disk's, in bytes; it stays what it is.
	Size() int64
	// ReadAt fills p.
	ReadAt(p []byte, offset int64) (int, error)
	// WriteAt writes all of p; it need not be durable.
	WriteAt(p []byte, offset int64) (int, error)
	// Flush makes durable what any WriteAt, Trim or Zero that has returned did. After it has failed once it goes on failing:
	// nobody knows any more what is durable.
	Flush() error
	// Trim says that nobody needs these bytes any more. It may do nothing.
	Trim(offset, length int64) error
	// Zero makes these bytes zeros.
	Zero(offset, length int64, how ZeroHow) error
	// Extents tells what the bytes from offset on are: at least one extent, of length in all at most, and no more than most.
	Extents(offset, length int64, most int) ([]Extent, error)
}

// ZeroHow is how a client wants zeros.
type ZeroHow struct {
	Allocated bool // they take their space, and writing there later does not run out of it
	Fast      bool // or not at all: ErrNotFast
}

// Extent is a stretch of a disk that is alike from end to end.
type Extent struct {
	Length int64
	Hole   bool // nothing is allocated there
	Zero   bool // it reads as zeros
}
