// Package xenapi calls xapi on its socket, as a storage driver must: XML-RPC by HTTP, in the session that xapi gave with the request. A
// session is never ended here: xapi goes on to use it.
package xenapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"reflinksr/internal/smapiv1/xmlrpc"
)

// Socket is where xapi listens.
const Socket = "/var/lib/xcp/xapi"

// Null is the reference of nothing.
const Null = "OpaqueRef:NULL"

const (
	timeout = 2 * time.Minute // of one call: xapi may be busy, and a driver that waits for ever holds up others
	limit   = 64 << 20        // bytes of an answer: ten thousand rows have 20 MB
)

// Failure is what xapi refused.
type Failure struct {
	Method string
	Code   string
	Params []string
}

func (f *Failure) Error() string {
	return fmt.Sprintf("xapi refuses %s: %s %q", f.Method, f.Code, f.Params)
}

// Is says whether an error is a failure with that code.
func Is(err error, code string) bool {
	var f *Failure
	return errors.As(err, &f) && f.Code == code
}

// Codes of failures that a driver expects.
const (
	HandleInvalid = "HANDLE_INVALID"    // the row is gone
	UUIDInvalid   = "UUID_INVALID"      // there is none
	DuplicateKey  = "MAP_DUPLICATE_KEY" // it has that key already
)

// Client calls xapi.
type Client struct {
	Socket  string
	Session string // a reference
	Task    string // of which the calls are a part: a reference, or ""
}

// Call makes one call in the session, which comes first in its parameters.
func (c *Client) Call(ctx context.Context, method string, params ...any) (any, error) {
	v, err := c.call(ctx, method, params)
	var failure *Failure
	if err != nil && !errors.As(err, &failure) {
		err = fmt.Errorf("asking xapi at %s for %s: %w", c.Socket, method, err)
	}
	return v, err
}

func (c *Client) call(ctx context.Context, method string, params []any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body, err := c.post(ctx, xmlrpc.Request(method, append([]any{c.Session}, params...)...))
	if err != nil {
		return nil, err
	}
	value, err := xmlrpc.ParseResponse(body)
	if err != nil {
		return nil, err
	}
	answer, _ := value.(xmlrpc.Struct)
	switch answer["Status"] {
	case "Success":
		return answer["Value"], nil
	case "Failure":
		all, _ := answer["ErrorDescription"].([]any)
		if len(all) == 0 {
			return nil, errors.New("a failure without a code")
		}
		f := &Failure{Method: method, Code: fmt.Sprint(all[0])}
		for _, p := range all[1:] {
			f.Params = append(f.Params, fmt.Sprint(p))
		}
		return nil, f
	}
	return nil, errors.New("the answer says neither success nor failure")
}

// post sends a request by HTTP/1.0, whose answer ends with the connection.
func (c *Client) post(ctx context.Context, body []byte) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.Socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	var b bytes.Buffer
	b.WriteString("POST / HTTP/1.0\r\nHost: localhost\r\nUser-Agent: reflinksr\r\nContent-Type: text/xml\r\n")
	if c.Task != "" && !strings.ContainsAny(c.Task, "\r\n") {
		fmt.Fprintf(&b, "Subtask-of: %s\r\n", c.Task)
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(body))
	b.Write(body)
	if _, err := conn.Write(b.Bytes()); err != nil {
		return nil, errors.Join(err, context.Cause(ctx))
	}
	answer, err := io.ReadAll(io.LimitReader(conn, limit+1))
	if err != nil {
		return nil, errors.Join(err, context.Cause(ctx))
	}
	return parseHTTP(answer)
}

// parseHTTP is the body of a response. It is refused if it is not whole.
func parseHTTP(answer []byte) ([]byte, error) {
	if len(answer) > limit {
		return nil, fmt.Errorf("the answer has more than %d bytes", limit)
	}
	head, body, whole := bytes.Cut(answer, []byte("\r\n\r\n"))
	if !whole {
		return nil, fmt.Errorf("the answer ends in its head: %.80q", answer)
	}
	lines := strings.Split(string(head), "\r\n")
	proto, status, _ := strings.Cut(lines[0], " ")
	if !strings.HasPrefix(proto, "HTTP/1.") || !strings.HasPrefix(status, "200") {
		return nil, fmt.Errorf("the answer is %.80q", lines[0])
	}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case strings.EqualFold(name, "Content-Length") && value != fmt.Sprint(len(body)):
			return nil, fmt.Errorf("the answer has %d bytes of %.20s", len(body), value)
		case strings.EqualFold(name, "Transfer-Encoding"):
			return nil, fmt.Errorf("the answer is encoded as %.40q", value)
		}
	}
	return body, nil
}
