package serve

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"reflinksr/internal/fault"
	"reflinksr/internal/smapi"
)

// Handler answers a call.
type Handler struct {
	smapi.Request // zero: which one
	answer        func(context.Context, smapi.Request) (any, error)
}

// On is the handler of the call that a function answers.
func On[Req smapi.Asks[Res], Res any](answer func(context.Context, Req) (Res, error)) Handler {
	var zero Req
	return Handler{zero, func(ctx context.Context, r smapi.Request) (any, error) { return answer(ctx, r.(Req)) }}
}

// Do is the handler of a call that a function carries out, and that has no result.
func Do[Req smapi.Asks[smapi.Unit]](act func(context.Context, Req) error) Handler {
	var zero Req
	return Handler{zero, func(ctx context.Context, r smapi.Request) (any, error) { return smapi.Unit{}, act(ctx, r.(Req)) }}
}

// Process is everything that a call has of its process.
type Process struct {
	Argv0  string // the name of the call, at the end of a path
	Args   []string
	Stdin  io.Reader
	Stdout io.Writer
}

// Around is called for a call, and calls answer: what a plugin does around all of them. If the
// request could not be read, that of r is nil, and answer only says so.
type Around func(ctx context.Context, call string, r Request, answer func(context.Context) (any, error)) (any, error)

// Serve answers the call with the first handler for it, and returns the exit status of the
// process.
func (p Process) Serve(ctx context.Context, handlers []Handler, around Around) int {
	name := filepath.Base(p.Argv0)
	h := find(handlers, name)
	if h == nil {
		fail(p.Stdout, name, fault.Errorf(ErrUnimplemented, name, "this plugin has no such call"))
		return 1
	}
	call := smapi.Find(name)
	args, err := ScanArgs(p.Args, h.Request)
	if args.Help {
		var b bytes.Buffer
		usage(&b, call)
		p.Stdout.Write(b.Bytes())
		return 0
	}
	var request Request
	switch {
	case err != nil:
	case args.JSON:
		request, err = ReadJSON(p.Stdin, h.Request)
	default:
		request, err = args.Request(h.Request)
	}
	answer, err := around(ctx, call.Call(), request, func(ctx context.Context) (any, error) {
		if err != nil {
			return nil, err
		}
		return h.answer(ctx, request.Request)
	})
	if err != nil {
		fail(p.Stdout, call.Call(), err)
		return 1
	}
	if err := reply(p.Stdout, answer); err != nil {
		// What was done stands; the caller just did not want to know.
		slog.Error("the answer could not be written", "err", err)
		return 1
	}
	return 0
}

// find looks a handler up by its call's name, in any case as the toolstack does.
func find(handlers []Handler, name string) *Handler {
	for i := range handlers {
		if strings.EqualFold(handlers[i].Call(), name) {
			return &handlers[i]
		}
	}
	return nil
}
