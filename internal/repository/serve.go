package repository

import (
	"context"

	"reflinksr/datapath"
)

// Server is a process's right to serve a volume by NBD.
type Server = datapath.Server

// ServerProgram is the name of the program that serves.
const ServerProgram = datapath.ServerProgram

// ServerListens is what the process says, to whom has started it, when it listens.
const ServerListens = datapath.ServerListens

// What a server can do.
const (
	ServeDevice = datapath.ServeDevice
	ServeMirror = datapath.ServeMirror
)

// Serve is for the process that is to serve the volume, for a migration that has it active. Whoever gets a Server must end it.
func (d Datapath) Serve(_ context.Context, what, domain string) (*Server, error) {
	return datapath.BeginServer(what, string(d), domain)
}

// ImportActivate lets the volume be mirrored to by who hands a connection to the socket that it answers. The domain of a migration must
// have it active for writing.
func (d Datapath) ImportActivate(_ context.Context, domain string) (socket string, err error) {
	return datapath.ImportActivate(string(d), domain)
}
