package nbd

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// handshake chooses the disk.
func (c *Client) handshake(name string, plain bool) error {
	if len(name) > maxString {
		return fmt.Errorf("a name of %d bytes: the protocol has %d at most", len(name), maxString)
	}
	f, err := receive(c.in, 16)
	if err != nil {
		return err
	}
	if f.uint64() != magicServer {
		return errors.New("whoever answers there is no NBD server")
	}
	switch f.uint64() {
	case magicOption:
	case magicOldstyle:
		return errors.New("it speaks the old style of NBD, which has no names of disks")
	default:
		return errors.New("whoever answers there is no NBD server")
	}
	if f, err = receive(c.in, 2); err != nil {
		return err
	}
	flags := f.uint16() & (flagFixedNewstyle | flagNoZeroes)
	if err := c.write(be.AppendUint32(nil, uint32(flags))); err != nil {
		return err
	}
	if flags&flagFixedNewstyle != 0 && !plain {
		chosen, err := c.haggle(name)
		if chosen || err != nil {
			return err
		}
	}
	return c.exportName(name, flags&flagNoZeroes == 0)
}

// exportName asks as every server understands it. One that has no such disk closes the connection.
func (c *Client) exportName(name string, zeroes bool) error {
	if err := c.write((&option{optExportName, []byte(name)}).append(nil)); err != nil {
		return err
	}
	n := 10
	if zeroes {
		n += 124
	}
	f, err := receive(c.in, n)
	if err != nil {
		return err
	}
	return c.is(f)
}

// is notes size and flags.
func (c *Client) is(f *fields) (err error) {
	c.size, err = size64(f.uint64())
	c.flags = Flags(f.uint16())
	return err
}

// haggle asks for structured replies and the map of holes, and for the disk; chosen is false if the server does not know that option.
func (c *Client) haggle(name string) (chosen bool, err error) {
	_, refused, err := c.ask(optStructuredReply, nil, nil)
	if err != nil {
		return false, err
	}
	if c.structured = refused == nil; c.structured {
		query := be.AppendUint32(appendString(nil, name), 1)
		_, refused, err := c.ask(optSetMetaContext, appendString(query, allocation), func(kind uint32, f *fields) error {
			if kind == repMetaContext {
				id := f.uint32()
				if string(f.rest) == allocation && !f.bad {
					c.meta, c.metaID = true, id
				}
			}
			return nil
		})
		if err != nil {
			return false, err
		}
		c.meta = c.meta && refused == nil
	}
	c.size = -1
	unsupported, refused, err := c.ask(optGo, be.AppendUint16(be.AppendUint16(appendString(nil, name), 1), infoBlockSize), c.info)
	if err != nil || unsupported {
		return false, err
	}
	if refused != nil {
		return false, refused
	}
	if c.size < 0 {
		return false, errors.New("it gives the disk without its size")
	}
	return true, nil
}

func (c *Client) info(kind uint32, f *fields) error {
	if kind != repInfo {
		return nil
	}
	switch f.uint16() {
	case infoExport:
		if err := c.is(f); err != nil {
			return err
		}
	case infoBlockSize:
		least, _, most := f.uint32(), f.uint32(), f.uint32()
		if bits.OnesCount32(least) != 1 || most < least {
			return fmt.Errorf("it says that a request has %d bytes at least and %d at most", least, most)
		}
		c.most = int(min(most-most%least, maxRequest))
	}
	if f.bad {
		return errors.New("what it tells about the disk is cut off")
	}
	return nil
}

// ask sends an option and reads the replies to it: a server that refuses says why.
func (c *Client) ask(id uint32, data []byte, each func(kind uint32, f *fields) error) (unsupported bool, refused, err error) {
	if err := c.write((&option{id, data}).append(nil)); err != nil {
		return false, nil, err
	}
	for range 1000 {
		f, err := receive(c.in, 20)
		if err != nil {
			return false, nil, err
		}
		magic, to, kind, length := f.uint64(), f.uint32(), f.uint32(), f.uint32()
		if magic != magicOptionReply || to != id || length > maxOption {
			return false, nil, errors.New("its answer to an option is none")
		}
		said := make([]byte, length)
		if _, err := io.ReadFull(c.in, said); err != nil {
			return false, nil, err
		}
		switch {
		case kind == repAck:
			return false, nil, nil
		case kind >= repError:
			said = said[:min(len(said), 200)]
			return kind == repUnsupported, fmt.Errorf("it refuses (NBD error %d) and says %q", kind-repError, said), nil
		case each != nil:
			if err := each(kind, &fields{rest: said}); err != nil {
				return false, nil, err
			}
		}
	}
	return false, nil, errors.New("its answer to an option does not end")
}

func (c *Client) write(b []byte) error {
	_, err := c.conn.Write(b)
	return err
}
