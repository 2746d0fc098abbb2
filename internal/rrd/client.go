package rrd

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Socket is where xcp-rrdd listens.
const Socket = "/var/lib/xcp/xcp-rrdd"

const (
	timeout     = 10 * time.Second
	answerLimit = 1 << 20 // bytes
)

// Client makes a plugin's calls.
type Client struct {
	uid  string
	http http.Client
}

// NewClient is for the plugin uid, at the daemon's socket. Nothing is connected yet.
func NewClient(socket, uid string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{uid, http.Client{Timeout: timeout, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Path is where the plugin's file has to be.
func (c *Client) Path(ctx context.Context) (string, error) {
	v, err := c.call(ctx, "Plugin.get_path", member{"uid", c.uid})
	return v.text(), err
}

// Register tells the daemon of the plugin, whose file must be there. It may be done before every reading, and has to, for it is what
// a daemon that was started anew knows of us. next is how long it is to the next reading: negative if that is overdue.
func (c *Client) Register(ctx context.Context) (next time.Duration, err error) {
	v, err := c.call(ctx, "Plugin.Local.register", member{"uid", c.uid}, member{"info", "Five_Seconds"}, member{"protocol", "V2"})
	if err != nil {
		return 0, err
	}
	seconds, err := strconv.ParseFloat(v.text(), 64)
	if err != nil || seconds != seconds || seconds > 3600 || seconds < -1e9 {
		return 0, fmt.Errorf("Plugin.Local.register: xcp-rrdd answers that the next reading is in %q seconds", v.text())
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// Deregister ends that. It succeeds if the plugin is not registered.
func (c *Client) Deregister(ctx context.Context) error {
	_, err := c.call(ctx, "Plugin.Local.deregister", member{"uid", c.uid})
	return err
}

type member struct{ name, value string }

// value is any value of XML-RPC: scalars as text.
type value struct {
	Bare   string `xml:",chardata"`
	Scalar struct {
		Text string `xml:",chardata"`
	} `xml:",any"`
	Members []struct {
		Name  string `xml:"name"`
		Value value  `xml:"value"`
	} `xml:"struct>member"`
	Items []value `xml:"array>data>value"`
}

func (v value) text() string {
	if v.Scalar.Text != "" {
		return strings.TrimSpace(v.Scalar.Text)
	}
	return strings.TrimSpace(v.Bare)
}

func (v value) member(name string) (value, bool) {
	for _, m := range v.Members {
		if m.Name == name {
			return m.Value, true
		}
	}
	return value{}, false
}

// call makes one call. Arguments have names, and so are one parameter, a struct.
func (c *Client) call(ctx context.Context, method string, arguments ...member) (v value, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", method, err)
		}
	}()
	var body bytes.Buffer
	element := func(text string) string {
		var b bytes.Buffer
		xml.EscapeText(&b, []byte(text))
		return b.String()
	}
	fmt.Fprintf(&body, `<?xml version="1.0"?><methodCall><methodName>%s</methodName><params><param><value><struct>`, element(method))
	for _, m := range arguments {
		fmt.Fprintf(&body, `<member><name>%s</name><value><string>%s</string></value></member>`, element(m.name), element(m.value))
	}
	body.WriteString(`</struct></value></param></params></methodCall>`)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://xcp-rrdd/", &body)
	if err != nil {
		return v, err
	}
	request.Header.Set("Content-Type", "text/xml")
	response, err := c.http.Do(request)
	if err != nil {
		return v, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return v, fmt.Errorf("xcp-rrdd answers %q", response.Status)
	}
	return parseAnswer(io.LimitReader(response.Body, answerLimit))
}

// parseAnswer reads an answer: a struct that says whether it is one, or a fault.
func parseAnswer(r io.Reader) (value, error) {
	var answer struct {
		XMLName xml.Name `xml:"methodResponse"`
		Params  []value  `xml:"params>param>value"`
		Fault   []value  `xml:"fault>value"`
	}
	if err := xml.NewDecoder(r).Decode(&answer); err != nil {
		return value{}, fmt.Errorf("no answer by XML-RPC: %w", err)
	}
	if len(answer.Fault) > 0 {
		text, _ := answer.Fault[0].member("faultString")
		return value{}, fmt.Errorf("xcp-rrdd reports a fault: %q", text.text())
	}
	if len(answer.Params) != 1 {
		return value{}, fmt.Errorf("an answer with %d values, of 1", len(answer.Params))
	}
	status, _ := answer.Params[0].member("Status")
	if status.text() == "Success" {
		v, there := answer.Params[0].member("Value")
		if !there {
			return value{}, errors.New("an answer without a value")
		}
		return v, nil
	}
	why, _ := answer.Params[0].member("ErrorDescription")
	var texts []string
	for _, item := range why.Items {
		texts = append(texts, item.text())
	}
	return value{}, fmt.Errorf("xcp-rrdd refuses: %q", strings.Join(append(texts, why.text()), " "))
}
