package nbd

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Magic numbers.
const (
	magicServer      = 0x4e42444d41474943 // NBDMAGIC
	magicOption      = 0x49484156454f5054 // IHAVEOPT
	magicOldstyle    = 0x0000420281861253
	magicOptionReply = 0x0003e889045565a9
	magicRequest     = 0x25609513
	magicSimple      = 0x67446698
	magicStructured  = 0x668e33ef
)

// Handshake flags, the same for server and client.
const (
	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1
)

// Options of the handshake.
const (
	optExportName      = 1
	optAbort           = 2
	optList            = 3
	optInfo            = 6
	optGo              = 7
	optStructuredReply = 8
	optListMetaContext = 9
	optSetMetaContext  = 10
)

// Replies to options.
const (
	repAck         = 1
	repServer      = 2
	repInfo        = 3
	repMetaContext = 4
	repError       = 1 << 31
	repUnsupported = repError + 1
	repInvalid     = repError + 3
	repTooBig      = repError + 9
)

// What repInfo is about.
const (
	infoExport    = 0
	infoName      = 1
	infoBlockSize = 3
)

// Flags are a server's transmission flags: what it can do.
type Flags uint16

// What a server can do; HasFlags is always set.
const (
	HasFlags        Flags = 1 << 0
	ReadOnly        Flags = 1 << 1
	SendFlush       Flags = 1 << 2
	SendFUA         Flags = 1 << 3
	SendTrim        Flags = 1 << 5
	SendWriteZeroes Flags = 1 << 6
	SendDF          Flags = 1 << 7
	CanMultiConn    Flags = 1 << 8
	SendFastZero    Flags = 1 << 11
)

// Commands.
const (
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisc        = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdWriteZeroes = 6
	cmdBlockStatus = 7
)

var commandNames = map[uint16]string{cmdRead: "read", cmdWrite: "write", cmdDisc: "disconnect", cmdFlush: "flush", cmdTrim: "trim", cmdWriteZeroes: "zero", cmdBlockStatus: "block status"}

// Flags of commands.
const (
	cmdFUA      = 1 << 0
	cmdNoHole   = 1 << 1
	cmdDF       = 1 << 2
	cmdReqOne   = 1 << 3
	cmdFastZero = 1 << 4
)

// Structured replies.
const (
	chunkDone        = 1 << 0 // a flag
	chunkNone        = 0
	chunkData        = 1
	chunkHole        = 2
	chunkStatus      = 5
	chunkError       = 1<<15 + 1
	chunkErrorOffset = 1<<15 + 2
)

// The state of qemu:dirty-bitmap.
const stateDirty = 1 << 0

// States of base:allocation.
const (
	stateHole = 1 << 0
	stateZero = 1 << 1
)

const (
	allocation   = "base:allocation"
	allocationID = 1
	bitmapID     = 2

	maxRequest = 32 << 20 // bytes that a READ or WRITE carries at most: what the protocol lets everybody rely on
	maxString  = 4096     // bytes of a name or a message, by the protocol
	maxOption  = 64 << 10 // bytes of an option, or of the reply to one
	maxExtents = 4096     // that one reply to BLOCK_STATUS has
)

// The error numbers that the protocol has.
var errnoNames = map[unix.Errno]string{unix.EPERM: "EPERM", unix.EIO: "EIO", unix.ENOMEM: "ENOMEM", unix.EINVAL: "EINVAL", unix.ENOSPC: "ENOSPC",
	unix.EOVERFLOW: "EOVERFLOW", unix.ENOTSUP: "ENOTSUP", unix.ESHUTDOWN: "ESHUTDOWN"}

// errnoOf is the protocol's number for a Backend's error.
func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	switch {
	case errors.Is(err, ErrNotFast):
		return unix.ENOTSUP
	case errors.Is(err, unix.EROFS):
		return unix.EPERM
	case errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		return unix.ENOSPC
	case errors.As(err, &errno) && errnoNames[errno] != "":
		return errno
	}
	return unix.EIO
}

// RemoteError is what a server answered instead of doing what was asked.
type RemoteError struct {
	Command        string     // "read", "write" …
	Offset, Length int64      // of what was asked for, in bytes
	Errno          unix.Errno // by the protocol; errors.Is finds it
	Message        string     // what the server says about it, as it came; "" of most
}

func (e *RemoteError) Error() string {
	name := errnoNames[e.Errno]
	if name == "" {
		name = fmt.Sprintf("error %d", uint32(e.Errno))
	} else {
		name += " (" + e.Errno.Error() + ")"
	}
	text := fmt.Sprintf("NBD %s of %d bytes at %d: the server answers %s", e.Command, e.Length, e.Offset, name)
	if e.Message != "" {
		text += fmt.Sprintf(" and says %q", e.Message)
	}
	return text
}

// Unwrap is the error number.
func (e *RemoteError) Unwrap() error { return e.Errno }
