package nbd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// client is one that speaks by hand.
type client struct {
	t testing.TB
	net.Conn
}

func byHand(t testing.TB, socket string) *client {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return &client{t, conn}
}

func (c *client) say(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) hear(n int) *fields {
	c.t.Helper()
	f, err := receive(c, n)
	if err != nil {
		c.t.Fatal(err)
	}
	return f
}

// gone says that the server has closed the connection.
func (c *client) gone() {
	c.t.Helper()
	rest, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, unix.ECONNRESET) || len(rest) > 0 {
		c.t.Errorf("the server says %q, %v instead of closing the connection", rest, err)
	}
}

func (c *client) greet(flags uint32) {
	c.t.Helper()
	if f := c.hear(18); f.uint64() != magicServer || f.uint64() != magicOption || f.uint16() != flagFixedNewstyle|flagNoZeroes {
		c.t.Error("no greeting")
	}
	c.say(be.AppendUint32(nil, flags))
}

// plainly greets and chooses the disk as tapdisk does.
func (c *client) plainly() {
	c.t.Helper()
	c.greet(flagFixedNewstyle | flagNoZeroes)
	c.say((&option{optExportName, []byte("tapdisk_client\x00")}).append(nil))
	c.hear(10)
}

// errno sends a request and answers with the number in its simple reply.
func (c *client) errno(r request, data ...byte) unix.Errno {
	c.t.Helper()
	r.cookie = 0x1122334455667788
	c.say(append(r.append(nil), data...))
	f := c.hear(16)
	if f.uint32() != magicSimple {
		c.t.Error("no simple reply")
	}
	errno := f.uint32()
	if f.uint64() != r.cookie {
		c.t.Error("another request's reply")
	}
	return unix.Errno(errno)
}

// tapdisk's mirror: a name with a NUL, no zeroes, and then sectors to write until it takes its leave.
func TestTapdisk(t *testing.T) {
	f := disk(t, 1<<20)
	c := byHand(t, serve(t, &Server{Backend: file(t, f, true)}))
	c.greet(flagFixedNewstyle | flagNoZeroes)
	c.say((&option{optExportName, []byte("tapdisk_client\x00")}).append(nil))
	reply := c.hear(10)
	if size, flags := reply.uint64(), Flags(reply.uint16()); size != 1<<20 || flags&HasFlags == 0 || flags&(SendDF|ReadOnly) != 0 {
		t.Error(size, flags)
	}
	sector := random(512, 1)
	if errno := c.errno(request{command: cmdWrite, offset: 1<<20 - 512, length: 512}, sector...); errno != 0 {
		t.Error(errno)
	}
	c.say((&request{command: cmdDisc}).append(nil))
	c.gone()
	got, err := os.ReadFile(f.Name())
	if err != nil || !bytes.Equal(got[1<<20-512:], sector) {
		t.Error("the sector is not there", err)
	}
}

// What cannot be done is refused with the protocol's number, its data is read over, and the connection goes on.
func TestRefusals(t *testing.T) {
	const size = 40 << 20
	f := disk(t, size)
	c := byHand(t, serve(t, &Server{Backend: file(t, f, false)}))
	c.plainly()
	reads := byHand(t, serve(t, &Server{Backend: file(t, f, false), ReadOnly: true}))
	reads.plainly()
	for _, r := range []struct {
		c    *client
		r    request
		want unix.Errno
	}{
		{c, request{command: cmdWrite, offset: size - 511, length: 512}, unix.ENOSPC},
		{c, request{command: cmdWrite, offset: 1<<64 - 1, length: 512}, unix.ENOSPC},
		{c, request{command: cmdWrite, length: maxRequest + 1}, unix.EINVAL},
		{c, request{command: cmdWrite, flags: 1 << 9, length: 512}, unix.EINVAL},
		{c, request{command: cmdWrite, flags: cmdNoHole, length: 512}, unix.EINVAL},
		{c, request{command: cmdWrite}, unix.EINVAL},
		{c, request{command: cmdRead, offset: size, length: 1}, unix.EINVAL},
		{c, request{command: cmdRead, length: maxRequest + 1}, unix.EINVAL},
		{c, request{command: cmdRead, flags: cmdDF, length: 512}, unix.EINVAL},
		{c, request{command: cmdTrim, offset: size, length: 1}, unix.EINVAL},
		{c, request{command: cmdWriteZeroes, offset: 1, length: size}, unix.ENOSPC},
		{c, request{command: cmdBlockStatus, length: 1}, unix.EINVAL},
		{c, request{command: cmdFlush, offset: 1}, unix.EINVAL},
		{c, request{command: 5, length: 512}, unix.EINVAL},
		{c, request{command: 99, length: 512}, unix.EINVAL},
		{reads, request{command: cmdWrite, length: 512}, unix.EPERM},
		{reads, request{command: cmdTrim, length: 512}, unix.EPERM},
		{reads, request{command: cmdWriteZeroes, length: 512}, unix.EPERM},
	} {
		var data []byte
		if r.r.command == cmdWrite {
			data = make([]byte, r.r.length)
		}
		if got := r.c.errno(r.r, data...); got != r.want {
			t.Errorf("%+v: %v, want %v", r.r, got, r.want)
		}
	}
	if errno := c.errno(request{command: cmdWriteZeroes, flags: cmdFUA, length: size}); errno != 0 {
		t.Errorf("zeros for more than a request's most: %v", errno)
	}
	for _, c := range []*client{c, reads} {
		if errno := c.errno(request{command: cmdFlush, flags: cmdFUA}); errno != 0 {
			t.Error(errno)
		}
	}
	c.say(bytes.Repeat([]byte{1}, requestSize))
	c.gone()
}

// Options that make no sense are refused, and others answered after them; a client that is none is cut off.
func TestOptions(t *testing.T) {
	socket := serve(t, &Server{Backend: file(t, disk(t, 1<<20), false), Name: "disk"})
	c := byHand(t, socket)
	c.greet(flagFixedNewstyle)
	ask := func(id uint32, data []byte) (kinds []uint32) {
		t.Helper()
		c.say((&option{id, data}).append(nil))
		for {
			f := c.hear(20)
			if f.uint64() != magicOptionReply || f.uint32() != id {
				t.Fatal("another option's reply")
			}
			kind := f.uint32()
			c.hear(int(f.uint32()))
			kinds = append(kinds, kind)
			if kind == repAck || kind >= repError {
				return kinds
			}
		}
	}
	export := appendString(nil, "any")
	meta := func(query string) []byte {
		return appendString(be.AppendUint32(bytes.Clone(export), 1), query)
	}
	for _, o := range []struct {
		id   uint32
		data []byte
		want []uint32
	}{
		{5, nil, []uint32{repUnsupported}},
		{77, make([]byte, 100), []uint32{repUnsupported}},
		{77, make([]byte, maxOption+1), []uint32{repTooBig}},
		{optList, nil, []uint32{repServer, repAck}},
		{optList, []byte{1}, []uint32{repInvalid}},
		{optGo, []byte{0, 0, 1, 0}, []uint32{repInvalid}},
		{optInfo, be.AppendUint16(bytes.Clone(export), 7), []uint32{repInvalid}},
		{optInfo, be.AppendUint16(bytes.Clone(export), 0), []uint32{repInfo, repInfo, repAck}},
		{optInfo, be.AppendUint16(be.AppendUint16(bytes.Clone(export), 1), infoName), []uint32{repInfo, repInfo, repInfo, repAck}},
		{optSetMetaContext, meta(allocation), []uint32{repInvalid}},
		{optStructuredReply, nil, []uint32{repAck}},
		{optListMetaContext, be.AppendUint32(bytes.Clone(export), 0), []uint32{repMetaContext, repAck}},
		{optListMetaContext, meta("base:"), []uint32{repMetaContext, repAck}},
		{optSetMetaContext, meta("base:"), []uint32{repAck}},
		{optSetMetaContext, be.AppendUint32(bytes.Clone(export), 1<<31), []uint32{repInvalid}},
		{optSetMetaContext, meta("x-other:thing"), []uint32{repAck}},
		{optSetMetaContext, meta(allocation), []uint32{repMetaContext, repAck}},
		{optGo, be.AppendUint16(appendString(nil, "another"), 0), []uint32{repInfo, repInfo, repAck}},
	} {
		if got := ask(o.id, o.data); !equal(got, o.want) {
			t.Errorf("option %d: replies %x, want %x", o.id, got, o.want)
		}
	}
	c.say((&request{command: cmdBlockStatus, length: 512}).append(nil)) // it was asked of another export
	f := c.hear(20)
	if magic, _, kind := f.uint32(), f.uint16(), f.uint16(); magic != magicStructured || kind != chunkError {
		t.Errorf("%x %x", magic, kind)
	}

	c = byHand(t, socket)
	c.greet(flagFixedNewstyle)
	if got := ask(optAbort, nil); !equal(got, []uint32{repAck}) {
		t.Error(got)
	}
	c.gone()
	c = byHand(t, socket)
	c.greet(1 << 5)
	c.gone()
	c = byHand(t, socket)
	c.greet(0)
	c.say((&option{optList, nil}).append(nil))
	c.gone()
	c = byHand(t, socket)
	c.greet(0)
	c.say((&option{optExportName, nil}).append(nil))
	c.hear(10 + 124)
	c = byHand(t, socket)
	c.greet(flagFixedNewstyle)
	c.say([]byte("GET / HTTP/1.1\r\n\r\n"))
	c.gone()
}

func equal(a, b []uint32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// A client that is silent before it has chosen the disk is cut off, one that is too many at once; one that has chosen may be silent.
func TestPatience(t *testing.T) {
	socket := serve(t, &Server{Backend: file(t, disk(t, 1<<20), false), Handshake: 300 * time.Millisecond, Connections: 2})
	chosen := byHand(t, socket)
	chosen.plainly()
	silent := byHand(t, socket)
	silent.hear(18)
	byHand(t, socket).gone()
	silent.gone()
	if errno := chosen.errno(request{command: cmdFlush}); errno != 0 {
		t.Error(errno)
	}
}

// Before it ends a server finishes what it works on, and answers.
func TestServerEnds(t *testing.T) {
	slow := &gate{File: file(t, disk(t, 1<<20), false), begun: make(chan bool, 1), open: make(chan bool)}
	theirs, ours := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- (&Server{Backend: slow}).ServeConn(ctx, ours) }()
	c, err := Connect(context.Background(), theirs, "x", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wrote := make(chan error, 1)
	go func() { wrote <- second(c.WriteAt(make([]byte, 512), 0)) }()
	<-slow.begun
	cancel()
	select {
	case err := <-ended:
		t.Fatalf("it ended (%v) in the middle of a write", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(slow.open)
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := c.Wait(); err == nil || !strings.Contains(err.Error(), "closed the connection") {
		t.Error(err)
	}
	if err := c.Flush(); err == nil || !strings.Contains(err.Error(), "closed the connection") {
		t.Error(err)
	}
}

type gate struct {
	*File
	begun, open chan bool
}

func (g *gate) WriteAt(p []byte, offset int64) (int, error) {
	g.begun <- true
	<-g.open
	return g.File.WriteAt(p, offset)
}

// What is no NBD server, or stops being one, is an error that says so.
func TestNoServer(t *testing.T) {
	hello := be.AppendUint16(be.AppendUint64(be.AppendUint64(nil, magicServer), magicOption), 0)
	disk := append(bytes.Clone(hello), append(be.AppendUint16(be.AppendUint64(nil, 1<<20), uint16(HasFlags)), make([]byte, 124)...)...)
	answer := func(b []byte) []byte { return append(bytes.Clone(disk), b...) }
	for _, s := range []struct {
		what string
		says []byte
		want string
	}{
		{"nothing", nil, "closed the connection"},
		{"another protocol", []byte("SSH-2.0-OpenSSH_9.2p1 Debian"), "no NBD server"},
		{"the old style", be.AppendUint64(be.AppendUint64(nil, magicServer), magicOldstyle), "old style"},
		{"half a greeting", hello[:17], "closed the connection"},
		{"a disk of more than can be", append(bytes.Clone(hello), bytes.Repeat([]byte{0xff}, 134)...), "cannot be"},
		{"no answer", disk, "closed the connection"},
		{"nonsense", answer(bytes.Repeat([]byte{7}, 16)), "is no answer"},
		{"another request's answer", answer(appendSimple(nil, 0, 99)), "not asked"},
		{"a structure", answer((&chunk{chunkDone, chunkNone, 1, 0}).append(nil)), "nobody has asked for"},
		{"half of the data", answer(append(appendSimple(nil, 0, 1), 1, 2, 3)), "closed the connection"},
		{"an error that nobody knows", answer(appendSimple(nil, 12345, 1)), "error 12345"},
	} {
		err := ask(t, s.says)
		if err == nil || !strings.Contains(err.Error(), s.want) {
			t.Errorf("%s: %v, want %q", s.what, err, s.want)
		}
	}
}

// ask reads 512 bytes of a server that says what is given whatever it hears.
func ask(t testing.TB, says []byte) error {
	theirs, ours := net.Pipe()
	over := make(chan bool)
	defer func() { <-over }()
	go func() {
		defer close(over)
		defer ours.Close()
		heard := 4 + 16 + 1 // flags, and the option
		if len(says) >= 152 {
			ours.Write(says[:18])
			io.CopyN(io.Discard, ours, int64(heard))
			ours.Write(says[18:152])
			io.CopyN(io.Discard, ours, requestSize)
			ours.Write(says[152:])
			return
		}
		go io.Copy(io.Discard, ours)
		ours.Write(says)
	}()
	c, err := Connect(context.Background(), theirs, "x", Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.ReadAt(make([]byte, 512), 0)
	return err
}

// A server that is silent is given up, and so is one whose structured answer has bytes twice, too few, or others.
func TestSilenceAndNonsense(t *testing.T) {
	theirs, ours := net.Pipe()
	defer ours.Close()
	began := time.Now()
	if _, err := Connect(context.Background(), theirs, "x", Options{Silence: 100 * time.Millisecond}); err == nil || !strings.Contains(err.Error(), "does not answer") || time.Since(began) > 30*time.Second {
		t.Error(err)
	}
	data := func(flags uint16, offset uint64, n int) []byte {
		return append(be.AppendUint64((&chunk{flags, chunkData, 1, uint32(8 + n)}).append(nil), offset), make([]byte, n)...)
	}
	hole := func(flags uint16, offset uint64, n uint32) []byte {
		return be.AppendUint32(be.AppendUint64((&chunk{flags, chunkHole, 1, 12}).append(nil), offset), n)
	}
	none := (&chunk{chunkDone, chunkNone, 1, 0}).append(nil)
	for _, s := range []struct {
		pieces [][]byte
		want   string
	}{
		{[][]byte{data(0, 512, 256), hole(chunkDone, 256, 256)}, ""},
		{[][]byte{hole(0, 300, 212), data(0, 256, 44), data(0, 512, 100), hole(0, 612, 156), none}, ""},
		{[][]byte{data(0, 256, 512)}, "has not answered"},
		{[][]byte{data(0, 256, 511), none}, "not complete"},
		{[][]byte{data(0, 256, 512), hole(0, 300, 1)}, "twice"},
		{[][]byte{hole(0, 300, 10), data(0, 256, 512)}, "twice"},
		{[][]byte{data(0, 255, 1)}, "not asked for"},
		{[][]byte{data(0, 768, 1)}, "not asked for"},
		{[][]byte{hole(0, 256, 1<<32-1)}, "not asked for"},
		{[][]byte{hole(0, 256, 0)}, "no sense"},
		{[][]byte{(&chunk{0, chunkNone, 1, 0}).append(nil)}, "no sense"},
		{[][]byte{(&chunk{0, chunkStatus, 1, 4}).append(nil), {0, 0, 0, 1}}, "no sense"},
		{[][]byte{(&chunk{0, chunkError, 1, 1 << 31}).append(nil)}, "no sense"},
		{[][]byte{(&chunk{0, chunkError, 1, 7}).append(nil), {0, 0, 0, 28, 0, 9, 'x'}}, "no sense"},
		{[][]byte{(&chunk{0, chunkError, 1, 7}).append(nil), {0, 0, 0, 28, 0, 1, '\x1b'}, none}, `ENOSPC (no space left on device) and says "\x1b"`},
		{[][]byte{appendSimple(nil, 0, 1)}, "without the structure"},
	} {
		theirs, ours := net.Pipe()
		o := Options{}
		if s.want == "has not answered" {
			o.Silence = 200 * time.Millisecond
		}
		c := newClient(theirs, o)
		c.size, c.structured = 4096, true
		go c.receive()
		go func() {
			io.CopyN(io.Discard, ours, requestSize)
			for _, p := range s.pieces {
				ours.Write(p)
			}
			io.Copy(io.Discard, ours)
		}()
		_, err := c.ReadAt(make([]byte, 512), 256)
		if (err == nil) != (s.want == "") || err != nil && !strings.Contains(err.Error(), s.want) {
			t.Errorf("%x: %v, want %q", s.pieces, err, s.want)
		}
		c.Close()
		ours.Close()
	}
}

// The parts of a reply may come in any order, and none of them twice.
func TestCovered(t *testing.T) {
	var c covered
	for _, r := range []struct {
		from, to int
		fits     bool
	}{{10, 20, true}, {30, 40, true}, {15, 16, false}, {20, 31, false}, {5, 11, false}, {20, 30, true}, {0, 50, false}, {0, 10, true}, {45, 50, true}, {40, 45, true}, {49, 51, false}} {
		if got := c.add(r.from, r.to); got != r.fits {
			t.Errorf("%v: %v, now %v", r, got, c.ranges)
		}
	}
	if !c.whole(50) || c.whole(51) {
		t.Error(c.ranges)
	}
}
