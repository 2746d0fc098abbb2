package track

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrLost says that the kernel had no room for some events: what was written meanwhile nobody knows.
var ErrLost = errors.New("the kernel's trace has lost events")

var errBroken = fmt.Errorf("%w: a page of its trace is not what its format says", ErrUnsupported)

// Flags in a page's commit word, whose rest is the number of bytes (include/linux/ring_buffer.h).
const (
	commitBytes  = 1<<27 - 1
	commitMissed = 1 << 31 // events before this page were lost
)

// Kinds of entries of a page; below them are events of 4 to 112 bytes (ring_buffer_event).
const (
	entryLong     = 0 // the length is in the next word
	entryPadding  = 29
	entryLater    = 30 // the time goes on
	entryAbsolute = 31 // the time is
)

// absoluteBits are those of the time that an absolute entry has; the rest is as before.
const absoluteBits = 59

// each calls visit for the events of a page, with their time and bytes, in order.
//
// A record may have been interrupted by another's: its time is then that of the first on
// older kernels, earlier than it was, never later.
func (p page) each(b []byte, visit func(time uint64, event []byte)) error {
	if len(b) < p.data.offset {
		return errBroken
	}
	commit := uint64(binary.NativeEndian.Uint32(b[p.commit.offset:]))
	if commit&commitMissed != 0 {
		return ErrLost
	}
	used := p.data.offset + int(commit&commitBytes)
	if used > len(b) {
		return errBroken
	}
	time := binary.NativeEndian.Uint64(b[p.time.offset:])
	for rest := b[p.data.offset:used]; len(rest) > 0; {
		if len(rest) < 4 {
			return errBroken
		}
		word := binary.NativeEndian.Uint32(rest)
		kind, delta := word&31, uint64(word>>5)
		length := int(4 + 4*kind)
		if kind == entryLong || kind >= entryPadding {
			if len(rest) < 8 {
				if kind == entryPadding && delta == 0 {
					return nil
				}
				return errBroken
			}
		}
		switch kind {
		case entryLong:
			time += delta
			length = 4 + int(binary.NativeEndian.Uint32(rest[4:]))
			if length < 8 || length > len(rest) {
				return errBroken
			}
			visit(time, rest[8:length])
		case entryPadding:
			if delta == 0 {
				return nil // the rest of the page is empty
			}
			time += delta
			length = 4 + int(binary.NativeEndian.Uint32(rest[4:]))
		case entryLater:
			time += delta + uint64(binary.NativeEndian.Uint32(rest[4:]))<<27
			length = 8
		case entryAbsolute:
			low := delta + uint64(binary.NativeEndian.Uint32(rest[4:]))<<27
			before := time
			time = time&^(1<<absoluteBits-1) | low
			if time < before {
				time += 1 << absoluteBits
			}
			length = 8
		default:
			time += delta
			if length > len(rest) {
				return errBroken
			}
			visit(time, rest[4:length])
		}
		if length < 4 || length > len(rest) {
			return errBroken
		}
		rest = rest[length:]
	}
	return nil
}
