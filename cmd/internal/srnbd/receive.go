package srnbd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/nbd"
	"reflinksr/internal/repository"
)

// How long the toolstack may take to hand a connection over, and whoever is at its other end to begin to speak: it is told of that by a
// host that has other things to do.
const (
	handing = 10 * time.Second
	begins  = time.Minute
)

// receive takes connections from the toolstack, and serves the disk on them, one at a time: two that write to it would not know of one
// another.
func receive(ctx context.Context, s *repository.Server, l *net.UnixListener, server *nbd.Server) error {
	size, err := s.Disk.Stat()
	if err != nil {
		return err
	}
	server.Backend, server.Handshake = newMirror(s.Disk, s.Sectors, size.Size()), begins
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	var served sync.WaitGroup
	defer served.Wait()
	place := make(chan struct{}, 1)
	for {
		from, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		conn, leave, err := handed(from, s, place)
		from.Close()
		if err != nil {
			slog.Error("a connection is refused", "err", err)
			continue
		}
		slog.Info("a mirror begins")
		served.Go(func() {
			defer leave()
			err := server.ServeConn(ctx, conn)
			slog.Info("a mirror has ended", "err", fmt.Sprint(err))
		})
	}
}

// handed is the connection that whoever has connected hands over; leave is for when it is over.
func handed(from *net.UnixConn, s *repository.Server, place chan struct{}) (_ net.Conn, leave func(), err error) {
	conn, err := descriptorOf(from)
	if err != nil {
		return nil, nil, err
	}
	select {
	case place <- struct{}{}:
	default:
		return nil, nil, errors.Join(errors.New("there is a mirror already"), conn.Close())
	}
	over, err := s.Connect()
	if err != nil {
		<-place
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, func() { over(); <-place }, nil
}

// descriptorOf reads a message with one descriptor, a connection, and a name that is of no concern: sendmsg(2), SCM_RIGHTS of unix(7).
func descriptorOf(from *net.UnixConn) (net.Conn, error) {
	from.SetDeadline(time.Now().Add(handing))
	name, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*16))
	_, n, _, _, err := from.ReadMsgUnix(name, rights)
	if err != nil {
		return nil, fmt.Errorf("the message with a connection: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil {
		return nil, fmt.Errorf("the message with a connection: %w", err)
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if len(files) != 1 {
		return nil, fmt.Errorf("the message has %d descriptors, and not one connection", len(files))
	}
	conn, err := net.FileConn(files[0])
	if err != nil {
		return nil, fmt.Errorf("what was handed over is no connection: %w", err)
	}
	return conn, nil
}
