package srnbd

import (
	"log/slog"
	"net"

	"reflinksr/internal/repository"
)

// clients accepts clients as long as the volume is not about to be taken away.
type clients struct {
	*net.UnixListener
	server *repository.Server
}

func (c clients) Accept() (net.Conn, error) {
	for {
		conn, err := c.AcceptUnix()
		if err != nil {
			return nil, err
		}
		leave, err := c.server.Connect()
		if err == nil {
			return &client{UnixConn: conn, leave: leave}, nil
		}
		slog.Info("a client is refused", "err", err)
		conn.Close()
	}
}

// client is a connection that counts until it is closed.
type client struct {
	*net.UnixConn
	leave func()
}

func (c *client) Close() error {
	defer c.leave()
	return c.UnixConn.Close()
}
