package nbd

import (
	"bytes"
	"context"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// said is a connection whose other end has said all it ever says, and hears everything.
type said struct {
	net.Conn // none: only what is below is called
	*bytes.Reader
}

func (said) Write(p []byte) (int, error)        { return len(p), nil }
func (s said) Read(p []byte) (int, error)       { return s.Reader.Read(p) }
func (said) Close() error                       { return nil }
func (said) RemoteAddr() net.Addr               { return nil }
func (said) SetDeadline(time.Time) error        { return nil }
func (s said) SetReadDeadline(time.Time) error  { return nil }
func (s said) SetWriteDeadline(time.Time) error { return nil }

// Whatever a client sends, a server neither panics nor hangs, nor takes memory without bound; and nothing beyond the disk changes.
func FuzzServer(f *testing.F) {
	greeting := be.AppendUint32(nil, flagFixedNewstyle|flagNoZeroes)
	name := appendString(nil, "x")
	chosen := (&option{optExportName, []byte("x")}).append(bytes.Clone(greeting))
	f.Add(chosen)
	f.Add((&option{optList, nil}).append(bytes.Clone(greeting)))
	structured := (&option{optStructuredReply, nil}).append(bytes.Clone(greeting))
	structured = (&option{optSetMetaContext, appendString(be.AppendUint32(bytes.Clone(name), 1), allocation)}).append(structured)
	structured = (&option{optGo, be.AppendUint16(bytes.Clone(name), 0)}).append(structured)
	for _, begin := range [][]byte{chosen, structured} {
		b := bytes.Clone(begin)
		for _, r := range []request{{command: cmdRead, length: 65536}, {command: cmdTrim, length: 512}, {command: cmdWriteZeroes, flags: cmdNoHole, offset: 512, length: 512}, {command: cmdBlockStatus, length: 4096},
			{command: cmdFlush}, {command: cmdRead, length: maxRequest}, {command: cmdBlockStatus, flags: cmdReqOne, length: 1 << 20}} {
			b = r.append(b)
		}
		b = append((&request{command: cmdWrite, offset: 99, length: 5}).append(b), "hello"...)
		f.Add((&request{command: cmdDisc}).append(b))
	}
	fd, err := unix.MemfdCreate("disk", unix.MFD_CLOEXEC)
	if err != nil {
		f.Fatal(err)
	}
	disk := os.NewFile(uintptr(fd), "disk")
	defer disk.Close()
	if err := disk.Truncate(1 << 20); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, says []byte) {
		d, err := NewFile(disk, false)
		if err != nil {
			t.Fatal(err)
		}
		(&Server{Backend: d}).ServeConn(context.Background(), said{nil, bytes.NewReader(says)})
		if st, err := disk.Stat(); err != nil || st.Size() != 1<<20 {
			t.Errorf("the disk has %d bytes now (%v)", st.Size(), err)
		}
	})
}

// Whatever a server answers, a client neither panics nor hangs, and touches nobody's bytes but those that were to be filled.
func FuzzClient(f *testing.F) {
	hello := be.AppendUint64(be.AppendUint64(nil, magicServer), magicOption)
	oldest := append(be.AppendUint16(bytes.Clone(hello), 0), be.AppendUint16(be.AppendUint64(nil, 1<<20), 0xffff)...)
	oldest = append(oldest, make([]byte, 124)...)
	f.Add(append(appendSimple(bytes.Clone(oldest), 0, 1), make([]byte, 700)...))
	b := be.AppendUint16(bytes.Clone(hello), flagFixedNewstyle|flagNoZeroes)
	b = (&optionReply{optStructuredReply, repAck, nil}).append(b)
	b = (&optionReply{optSetMetaContext, repMetaContext, append(be.AppendUint32(nil, 7), allocation...)}).append(b)
	b = (&optionReply{optSetMetaContext, repAck, nil}).append(b)
	b = (&optionReply{optGo, repInfo, be.AppendUint16(be.AppendUint64(be.AppendUint16(nil, infoExport), 1<<20), 0xffff)}).append(b)
	b = (&optionReply{optGo, repInfo, be.AppendUint32(be.AppendUint32(be.AppendUint32(be.AppendUint16(nil, infoBlockSize), 1), 4096), 65536)}).append(b)
	b = (&optionReply{optGo, repAck, nil}).append(b)
	f.Add(bytes.Clone(b))
	b = append(be.AppendUint64((&chunk{0, chunkData, 1, 108}).append(b), 0), make([]byte, 100)...)
	b = be.AppendUint32(be.AppendUint64((&chunk{chunkDone, chunkHole, 1, 12}).append(b), 100), 600)
	b = be.AppendUint32((&chunk{chunkDone, chunkStatus, 2, 12}).append(b), 7)
	b = be.AppendUint32(be.AppendUint32(b, 512), stateHole)
	b = append(be.AppendUint16(be.AppendUint32((&chunk{chunkDone, chunkError, 3, 9}).append(b), 28), 3), "no!"...)
	f.Add(appendSimple(b, 5, 4))
	f.Fuzz(func(t *testing.T, says []byte) {
		conn := said{nil, bytes.NewReader(says)}
		c := newClient(conn, Options{Silence: 10 * time.Second})
		if c.handshake("x", false) != nil {
			return
		}
		around := bytes.Repeat([]byte{0xee}, 2000)
		cookie := uint64(0)
		// The answers are there before the question, so each call is put in before anything is read.
		expect := func(r request, data []byte) {
			cookie++
			r.cookie = cookie
			c.calls[cookie] = &call{request: r, data: data, done: make(chan struct{})}
		}
		expect(request{command: cmdRead, length: 700}, around[700:1400])
		expect(request{command: cmdBlockStatus, length: 4096}, nil)
		expect(request{command: cmdWrite, length: 512}, nil)
		expect(request{command: cmdFlush}, nil)
		calls := []*call{c.calls[1], c.calls[2]}
		c.receive()
		if c.err == nil {
			t.Error("the end of the connection was not noticed")
		}
		for i, b := range around {
			if b != 0xee && (i < 700 || i >= 1400) {
				t.Fatalf("byte %d was touched", i)
			}
		}
		sum := int64(0)
		for _, e := range calls[1].extents {
			if e.Length <= 0 {
				t.Error(e)
			}
			sum += e.Length
		}
		if sum > 4096 {
			t.Errorf("%d bytes of 4096", sum)
		}
	})
}
