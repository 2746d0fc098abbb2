package scripts

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// nbdClient reads from an NBD server as backup clients do: fixed newstyle, one export, simple replies
// (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md).
type nbdClient struct {
	net.Conn
	size    int64 // bytes
	queries uint64
}

// Numbers of the protocol.
const (
	nbdMagic        = 0x4e42444d41474943 // "NBDMAGIC"
	nbdOptionMagic  = 0x49484156454f5054 // "IHAVEOPT"
	nbdRequestMagic = 0x25609513
	nbdReplyMagic   = 0x67446698
	nbdExportName   = 1
	nbdRead         = 0
	nbdDisconnect   = 2
	nbdFixed        = 1 // the flag of either side: fixed newstyle
)

// dialNBD connects to the default export of a server that is about to listen at a socket.
func dialNBD(socket string, patience time.Duration) (c *nbdClient, err error) {
	var conn net.Conn
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if conn, err = net.Dial("unix", socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return nil, err
		}
	}
	conn.SetDeadline(time.Now().Add(patience))
	c = &nbdClient{Conn: conn}
	if err := c.negotiate(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("NBD: %w", err)
	}
	return c, nil
}

func (c *nbdClient) negotiate() error {
	var hello struct {
		Magic, Option uint64
		Flags         uint16
	}
	if err := binary.Read(c, binary.BigEndian, &hello); err != nil {
		return err
	}
	if hello.Magic != nbdMagic || hello.Option != nbdOptionMagic || hello.Flags&nbdFixed == 0 {
		return fmt.Errorf("no fixed newstyle server: %+v", hello)
	}
	choice := struct {
		Flags          uint32
		Magic          uint64
		Option, Length uint32
	}{nbdFixed, nbdOptionMagic, nbdExportName, 0}
	if err := binary.Write(c, binary.BigEndian, choice); err != nil {
		return err
	}
	var export struct {
		Size  uint64
		Flags uint16
		Zeros [124]byte
	}
	err := binary.Read(c, binary.BigEndian, &export)
	c.size = int64(export.Size)
	return err
}

type nbdRequest struct {
	Magic       uint32
	Flags, Type uint16
	Query       uint64
	Offset      uint64
	Length      uint32
}

func (c *nbdClient) read(b []byte, offset int64) error {
	c.queries++
	request := nbdRequest{Magic: nbdRequestMagic, Type: nbdRead, Query: c.queries, Offset: uint64(offset), Length: uint32(len(b))}
	if err := binary.Write(c, binary.BigEndian, request); err != nil {
		return err
	}
	var reply struct {
		Magic, Error uint32
		Query        uint64
	}
	if err := binary.Read(c, binary.BigEndian, &reply); err != nil {
		return err
	}
	if reply.Magic != nbdReplyMagic || reply.Error != 0 || reply.Query != c.queries {
		return fmt.Errorf("NBD: reading %d bytes from %d on was answered with %+v", len(b), offset, reply)
	}
	_, err := io.ReadFull(c, b)
	return err
}

func (c *nbdClient) disconnect() error {
	return binary.Write(c, binary.BigEndian, nbdRequest{Magic: nbdRequestMagic, Type: nbdDisconnect})
}
