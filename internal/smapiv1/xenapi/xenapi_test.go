package xenapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// answering is a client of a server that answers every connection with that text.
func answering(t *testing.T, text string) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "xapi")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buffer := make([]byte, 64<<10)
			conn.Read(buffer)
			conn.Write([]byte(text))
			conn.Close()
		}
	}()
	return &Client{Socket: socket, Session: "OpaqueRef:s"}
}

func http(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\ncontent-length:%d\r\n\r\n%s", len(body), body)
}

func TestAnswers(t *testing.T) {
	status := func(s, value string) string {
		return http(`<methodResponse><params><param><value><struct><member><name>Status</name><value>` + s + `</value></member>` + value + `</struct></value></param></params></methodResponse>`)
	}
	c := answering(t, status("Success", "<member><name>Value</name><value>OpaqueRef:1</value></member>"))
	if v, err := c.Text(context.Background(), "VDI.get_by_uuid", "u"); err != nil || v != "OpaqueRef:1" {
		t.Error(v, err)
	}
	gone := status("Failure", "<member><name>ErrorDescription</name><value><array><data><value>HANDLE_INVALID</value><value>VDI</value></data></array></value></member>")
	c = answering(t, gone)
	if err := c.Forget(context.Background(), "OpaqueRef:1"); err != nil {
		t.Error(err)
	}
	if _, err := c.VDI(context.Background(), "OpaqueRef:1"); !Is(err, HandleInvalid) {
		t.Error(err)
	}
	if _, err := c.VDIs(context.Background(), `x" or true`); err == nil {
		t.Error("a reference with a quotation mark is sent")
	}
	for name, text := range map[string]string{
		"nothing":       "",
		"cut off":       strings.TrimSuffix(gone, "onse>"),
		"an error":      "HTTP/1.1 500 Internal Server Error\r\n\r\n",
		"no HTTP":       "hello\r\n\r\n",
		"chunks":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
		"no status":     status("", ""),
		"no code":       status("Failure", ""),
		"another value": http("<methodResponse><params><param><value>x</value></param></params></methodResponse>"),
		"a fault":       http("<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>1</int></value></member><member><name>faultString</name><value>x</value></member></struct></value></fault></methodResponse>"),
	} {
		_, err := answering(t, text).Call(context.Background(), "SR.get_uuid", "r")
		var f *Failure
		if err == nil || errors.As(err, &f) || !strings.Contains(err.Error(), "SR.get_uuid") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// One that does not answer is waited for until the caller has enough.
func TestSilence(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "xapi")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := (&Client{Socket: socket}).Call(ctx, "SR.get_uuid", "r"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
