package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// relay is what the toolstack has between the NBD client of one host and the server of another: who connects here is connected there, and bytes are copied both
// ways. Addresses are unix:PATH and tcp:HOST:PORT.
func relay(here, there string) error {
	kind, address, _ := strings.Cut(here, ":")
	l, err := net.Listen(kind, address)
	if err != nil {
		return err
	}
	for {
		client, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer client.Close()
			kind, address, _ := strings.Cut(there, ":")
			server, err := net.Dial(kind, address)
			if err != nil {
				fmt.Fprintln(os.Stderr, "relay:", err)
				return
			}
			defer server.Close()
			go func() {
				defer server.Close()
				io.Copy(server, client) //nolint:errcheck // whoever is at its ends notices
			}()
			io.Copy(client, server) //nolint:errcheck // the same
		}()
	}
}
