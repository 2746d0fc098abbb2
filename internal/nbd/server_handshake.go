package nbd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// connection is a client of a Server.
type connection struct {
	server *Server
	conn   net.Conn
	size   int64

	structured bool
	metaFor    string // the export whose allocation the client may ask for
	meta       bool
	bitmap     bool // it may ask what has changed as well

	reading sync.Mutex // whoever has it reads the next request
	in      buffered
	out     sender
	left    budget
	ended   error // why no more requests are read
}

// buffered reads a connection by more than what is asked for.
type buffered struct{ *bufio.Reader }

func (b *buffered) Reset(r io.Reader) { b.Reader = bufio.NewReaderSize(r, 64<<10) }

// handshake talks with the client until it has chosen the disk.
func (c *connection) handshake() error {
	hello := be.AppendUint64(nil, magicServer)
	hello = be.AppendUint64(hello, magicOption)
	hello = be.AppendUint16(hello, flagFixedNewstyle|flagNoZeroes)
	if err := c.write(hello); err != nil {
		return err
	}
	f, err := receive(c.in, 4)
	if err != nil {
		return err
	}
	flags := f.uint32()
	if flags&^(flagFixedNewstyle|flagNoZeroes) != 0 {
		return fmt.Errorf("the client has flags %#x, which this server never offered", flags)
	}
	for range 1000 { // more has nobody to ask
		o, err := c.option()
		if err != nil {
			return err
		}
		if o.id == optExportName {
			return c.exportName(o.data, flags&flagNoZeroes == 0)
		}
		if flags&flagFixedNewstyle == 0 {
			return fmt.Errorf("the client asks for option %d without fixed newstyle", o.id)
		}
		if chosen, err := c.answer(o); chosen || err != nil {
			return err
		}
	}
	return errors.New("the client asks for one option after the other and never for the disk")
}

// option reads the next one; of one that is too long it says so, and reads on.
func (c *connection) option() (option, error) {
	for {
		f, err := receive(c.in, 16)
		if err != nil {
			return option{}, err
		}
		magic, id, length := f.uint64(), f.uint32(), f.uint32()
		if magic != magicOption {
			return option{}, errors.New("what the client sends is no NBD option")
		}
		if length <= maxOption {
			data := make([]byte, length)
			_, err := io.ReadFull(c.in, data)
			return option{id, data}, err
		}
		if _, err := io.CopyN(io.Discard, c.in, int64(length)); err != nil {
			return option{}, err
		}
		if id == optExportName {
			return option{}, errors.New("the client asks for an export with a name that is too long")
		}
		if err := c.reply(id, repTooBig, []byte("the option is too long")); err != nil {
			return option{}, err
		}
	}
}

func (c *connection) exportName(name []byte, zeroes bool) error {
	c.chosen(string(name))
	b := be.AppendUint64(nil, uint64(c.size))
	b = be.AppendUint16(b, uint16(c.server.flags(c.structured)))
	if zeroes {
		b = append(b, make([]byte, 124)...)
	}
	return c.write(b)
}

// chosen forgets what was asked about another export.
func (c *connection) chosen(name string) {
	same := c.structured && name == c.metaFor
	c.meta, c.bitmap = c.meta && same, c.bitmap && same
}

// answer answers an option; chosen is true when transmission begins.
func (c *connection) answer(o option) (chosen bool, err error) {
	switch o.id {
	case optAbort:
		c.reply(o.id, repAck, nil) // who aborts need not wait for it
		return false, errLeaves
	case optList:
		if len(o.data) > 0 {
			return false, c.invalid(o.id)
		}
		if err := c.reply(o.id, repServer, appendString(nil, c.server.Name)); err != nil {
			return false, err
		}
	case optStructuredReply:
		if len(o.data) > 0 {
			return false, c.invalid(o.id)
		}
		c.structured = true
	case optInfo, optGo:
		return c.info(o)
	case optListMetaContext, optSetMetaContext:
		return false, c.metaContext(o)
	default:
		return false, c.reply(o.id, repUnsupported, []byte("this server has no such option"))
	}
	return false, c.reply(o.id, repAck, nil)
}

func (c *connection) info(o option) (chosen bool, err error) {
	f := fields{rest: o.data}
	name := f.text()
	var wantsName bool
	for range f.uint16() {
		wantsName = f.uint16() == infoName || wantsName
		if f.bad {
			break
		}
	}
	if !f.whole() {
		return false, c.invalid(o.id)
	}
	export := be.AppendUint16(nil, infoExport)
	export = be.AppendUint64(export, uint64(c.size))
	export = be.AppendUint16(export, uint16(c.server.flags(c.structured)))
	sizes := be.AppendUint16(nil, infoBlockSize)
	for _, n := range []uint32{1, 4096, maxRequest} { // least, best, most
		sizes = be.AppendUint32(sizes, n)
	}
	infos := [][]byte{export, sizes}
	if wantsName {
		infos = append(infos, append(be.AppendUint16(nil, infoName), name...))
	}
	for _, data := range infos {
		if err := c.reply(o.id, repInfo, data); err != nil {
			return false, err
		}
	}
	if o.id == optGo {
		c.chosen(name)
		chosen = true
	}
	return chosen, c.reply(o.id, repAck, nil)
}

func (c *connection) metaContext(o option) error {
	f := fields{rest: o.data}
	name := f.text()
	queries := f.uint32()
	lists := o.id == optListMetaContext
	found := queries == 0 && lists // it asks for all
	bitmap := found && c.server.Bitmap != nil
	for range queries {
		query := f.text()
		if f.bad {
			break
		}
		found = found || query == allocation || query == "base:" && lists
		if b := c.server.Bitmap; b != nil {
			bitmap = bitmap || query == b.context() || (query == "qemu:" || query == "qemu:dirty-bitmap:") && lists
		}
	}
	if !f.whole() || !c.structured {
		return c.invalid(o.id)
	}
	ids := [2]uint32{}
	if !lists {
		c.meta, c.bitmap, c.metaFor, ids = found, bitmap, name, [2]uint32{allocationID, bitmapID}
	}
	if found {
		if err := c.reply(o.id, repMetaContext, append(be.AppendUint32(nil, ids[0]), allocation...)); err != nil {
			return err
		}
	}
	if bitmap {
		if err := c.reply(o.id, repMetaContext, append(be.AppendUint32(nil, ids[1]), c.server.Bitmap.context()...)); err != nil {
			return err
		}
	}
	return c.reply(o.id, repAck, nil)
}

func (c *connection) invalid(id uint32) error {
	return c.reply(id, repInvalid, []byte("the option makes no sense"))
}

func (c *connection) reply(id, kind uint32, data []byte) error {
	return c.write((&optionReply{id, kind, data}).append(nil))
}

func (c *connection) write(b []byte) error {
	_, err := c.conn.Write(b)
	return err
}
