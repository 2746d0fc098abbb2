package nbd

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// ReadAt fills p; io.EOF at the disk's end, as io.ReaderAt has it.
func (c *Client) ReadAt(p []byte, offset int64) (int, error) {
	whole := len(p)
	if offset >= 0 && offset <= c.size {
		p = p[:min(int64(len(p)), c.size-offset)]
	}
	if err := c.within(cmdRead, offset, int64(len(p))); err != nil {
		return 0, err
	}
	for n := 0; n < len(p); {
		part := p[n:min(len(p), n+c.most)]
		if _, err := c.do(request{command: cmdRead, offset: uint64(offset) + uint64(n), length: uint32(len(part))}, nil, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	if len(p) < whole {
		return len(p), io.EOF
	}
	return len(p), nil
}

// WriteAt writes p. The server need not have made it durable: Flush does.
func (c *Client) WriteAt(p []byte, offset int64) (int, error) { return c.writeWith(p, offset, 0) }

// WriteDurable is WriteAt that returns when it is durable: ErrCannot if the server knows neither FUA nor FLUSH.
func (c *Client) WriteDurable(p []byte, offset int64) (int, error) {
	if c.flags&SendFUA != 0 {
		return c.writeWith(p, offset, cmdFUA)
	}
	if c.flags&SendFlush == 0 {
		return 0, c.cannot("writing durably")
	}
	n, err := c.writeWith(p, offset, 0)
	if err == nil {
		err = c.Flush()
	}
	return n, err
}

func (c *Client) writeWith(p []byte, offset int64, flags uint16) (int, error) {
	if err := c.within(cmdWrite, offset, int64(len(p))); err != nil {
		return 0, err
	}
	for n := 0; n < len(p); {
		part := p[n:min(len(p), n+c.most)]
		if _, err := c.do(request{command: cmdWrite, flags: flags, offset: uint64(offset) + uint64(n), length: uint32(len(part))}, part, nil); err != nil {
			return n, err
		}
		n += len(part)
	}
	return len(p), nil
}

// Flush makes durable what was answered before: ErrCannot if the server has no such command, and then nobody knows.
func (c *Client) Flush() error {
	if c.flags&SendFlush == 0 {
		return c.cannot("flushing")
	}
	_, err := c.do(request{command: cmdFlush}, nil, nil)
	return err
}

// Zero makes bytes zeros, by the server's command for it or else by writing them. They are to read as zeros; ZeroHow says more
// about them, of which Fast is ErrNotFast where the server cannot tell.
func (c *Client) Zero(offset, length int64, how ZeroHow) error {
	if err := c.within(cmdWriteZeroes, offset, length); err != nil {
		return err
	}
	if how.Fast && c.flags&SendFastZero == 0 {
		return ErrNotFast
	}
	var flags uint16
	if how.Allocated {
		flags |= cmdNoHole
	}
	if how.Fast {
		flags |= cmdFastZero
	}
	if c.flags&SendWriteZeroes != 0 {
		return c.each(cmdWriteZeroes, flags, offset, length)
	}
	for zeros := make([]byte, min(length, 1<<20)); length > 0; {
		n, err := c.WriteAt(zeros[:min(length, int64(len(zeros)))], offset)
		if err != nil {
			return err
		}
		offset, length = offset+int64(n), length-int64(n)
	}
	return nil
}

// Trim says that bytes are not needed any more; what they read as afterwards nobody knows. ErrCannot if the server has no such command.
func (c *Client) Trim(offset, length int64) error {
	if c.flags&SendTrim == 0 {
		return c.cannot("trimming")
	}
	if err := c.within(cmdTrim, offset, length); err != nil {
		return err
	}
	return c.each(cmdTrim, 0, offset, length)
}

// largest is what one request that carries no data is about at most.
func largest(length int64) uint32 { return uint32(min(length, 1<<30)) }

func (c *Client) each(command, flags uint16, offset, length int64) error {
	for length > 0 {
		n := largest(length)
		_, err := c.do(request{command: command, flags: flags, offset: uint64(offset), length: n}, nil, nil)
		if flags&cmdFastZero != 0 && errors.Is(err, unix.ENOTSUP) {
			return ErrNotFast
		}
		if err != nil {
			return err
		}
		offset, length = offset+int64(n), length-int64(n)
	}
	return nil
}

// Extents tells what the bytes from offset on are: the first extents of them, of length in all at most. Where the server does not
// tell, all is data.
func (c *Client) Extents(offset, length int64) ([]Extent, error) {
	if err := c.within(cmdBlockStatus, offset, length); err != nil || length == 0 {
		return nil, err
	}
	if !c.meta {
		return []Extent{{Length: length}}, nil
	}
	k, err := c.do(request{command: cmdBlockStatus, offset: uint64(offset), length: largest(length)}, nil, nil)
	if err != nil {
		return nil, err
	}
	return k.extents, nil
}
