// Package srnbd is the process that serves a disk of an SR by NBD, for the toolstack that moves one there or away. The plugin starts it, for
// each disk on its way, and it lives as long as that: until the migration gives the disk back, or is no more. It depends on nobody else: the call
// and the service that started it may end.
package srnbd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/syslog"
	"reflinksr/cmd/internal/version"
	"reflinksr/internal/cgroup"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/nbd"
	"reflinksr/internal/repository"
)

const usage = `usage: srnbd serve URI DOMAIN     serve a volume that the domain of a migration has active
       srnbd receive URI DOMAIN   let it be mirrored to, over connections that it is handed
       srnbd mirror URI ID        mirror a volume to where the mirror of that name goes
       srnbd version

It is started by the plugin, which hears by descriptor 3 that it listens.
`

// Main does what the program was started for, and returns its exit status.
func Main() int {
	unix.Umask(0o077)
	hostinfo.Release = version.Version
	args := os.Args[1:]
	switch {
	case len(args) == 1 && args[0] == "version":
		fmt.Println("srnbd", version.String())
		return 0
	case len(args) == 3 && (args[0] == repository.ServeDevice || args[0] == repository.ServeMirror):
		return serve(args[0], repository.Datapath(args[1]), args[2], os.NewFile(3, "whoever waits"))
	case len(args) == 3 && args[0] == repository.MirrorAway:
		return away(repository.Datapath(args[1]), args[2], os.NewFile(3, "whoever waits"))
	}
	fmt.Fprint(os.Stderr, usage)
	return 2
}

// serve serves the disk until it is ended, and returns the process's exit status. waiting is told that it listens, or why it does not.
func serve(what string, disk repository.Datapath, domain string, waiting io.WriteCloser) int {
	ctx, end := settle("uri", string(disk), "domain", domain)
	defer end()
	s, listener, err := begin(ctx, what, disk, domain)
	if err != nil {
		slog.Error("not served", "err", err)
		fmt.Fprint(waiting, err) //nolint:errcheck // whoever waited is gone
		waiting.Close()
		return 1
	}
	io.WriteString(waiting, repository.ServerListens) //nolint:errcheck // the same
	waiting.Close()
	slog.Info("serving", "socket", s.Socket)
	start := time.Now()
	err = run(ctx, s, listener)
	if e := s.End(); err == nil {
		err = e
	}
	if err != nil {
		slog.Error("served no more", "err", err)
		return 1
	}
	slog.Info("served", "took", time.Since(start))
	return 0
}

// settle makes the process one of its own: it tells the log of what it is about, ends when it is told to, and belongs to no service. end undoes that.
func settle(about ...any) (_ context.Context, end func()) {
	slog.SetDefault(slog.New(syslog.Handler{Program: "srnbd"}).With(about...))
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	signal.Ignore(unix.SIGHUP)
	back, err := cgroup.Leave("srnbd")
	if err != nil {
		slog.Warn("a restart of the toolstack will end the migration", "err", err)
	}
	return ctx, func() { back(); stop() }
}

// begin takes the disk and listens.
func begin(ctx context.Context, what string, disk repository.Datapath, domain string) (*repository.Server, *net.UnixListener, error) {
	s, err := disk.Serve(ctx, what, domain)
	if err != nil {
		return nil, nil, err
	}
	listener, err := listen(s.Socket)
	if err != nil {
		s.End() //nolint:errcheck // nothing was written
		return nil, nil, err
	}
	return s, listener, nil
}

// run serves until ctx ends or nobody wants it any more.
func run(ctx context.Context, s *repository.Server, l *net.UnixListener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for range time.Tick(time.Second) {
			if !s.Wanted() {
				slog.Warn("the volume is not active any more")
				cancel()
			}
		}
	}()
	server := nbd.Server{Name: string(s.Key), ReadOnly: s.ReadOnly, Connections: 8, Report: func(err error) { slog.Error("a request failed", "err", err) }}
	if s.Sectors != nil {
		return receive(ctx, s, l, &server)
	}
	backend, err := nbd.NewFile(s.Disk, false)
	if err != nil {
		return err
	}
	server.Backend = backend
	return server.Serve(ctx, clients{l, s})
}
