package opennebula

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"reflinksr/internal/fault"
)

// endpoint is where oned answers.
func endpoint() string {
	if e := os.Getenv("ONE_XMLRPC"); e != "" {
		return e
	}
	home, _ := os.UserHomeDir()
	if data, err := os.ReadFile(filepath.Join(home, ".one", "one_endpoint")); err == nil { // #nosec G304 -- the owner's
		return strings.TrimSpace(string(data))
	}
	return "http://localhost:2633/RPC2"
}

// session is who asks.
func session() (string, error) {
	path := os.Getenv("ONE_AUTH")
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		path = filepath.Join(home, ".one", "one_auth")
	}
	data, err := os.ReadFile(path) // #nosec G304 G703 -- the owner's
	return strings.TrimSpace(string(data)), err
}

type response struct {
	Values []struct {
		Bool string `xml:"boolean"`
		Text string `xml:"string"`
	} `xml:"params>param>value>array>data>value"`
}

// Kind is what oned can be asked about.
type Kind string

// A guest, an image, a datastore: by these names also the commands oneKIND are called.
const (
	AGuest     Kind = "vm"
	AnImage    Kind = "image"
	ADatastore Kind = "datastore"
)

// Ask asks oned about something: one request. It answers the XML.
func Ask(ctx context.Context, kind Kind, id int) (string, error) {
	who, err := session()
	if err != nil {
		return "", err
	}
	more := ""
	if kind == ADatastore { // with its secrets as they are: its driver needs them
		more = "<param><value><boolean>1</boolean></value></param>"
	}
	var quoted bytes.Buffer
	xml.EscapeText(&quoted, []byte(who))
	body := fmt.Sprintf(`<?xml version="1.0"?><methodCall><methodName>one.%s.info</methodName><params><param><value><string>%s</string></value></param><param><value><int>%d</int></value></param>%s</params></methodCall>`, kind, quoted.String(), id, more)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint(), strings.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "text/xml")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, limit))
	if err != nil {
		return "", err
	}
	var r response
	if err := xml.Unmarshal(data, &r); err != nil || len(r.Values) < 2 {
		return "", fmt.Errorf("oned at %s answered what is no answer of it (HTTP %s)", endpoint(), answer.Status)
	}
	if r.Values[0].Bool != "1" && r.Values[0].Bool != "true" {
		return "", fault.Errorf(fault.ErrVolumeNotFound, fmt.Sprint(id), "oned does not tell of %s %d: %s", kind.name(), id, OneLine(fault.Shorten(r.Values[1].Text)))
	}
	return r.Values[1].Text, nil
}

// name is how an operator calls it.
func (k Kind) name() string {
	if k == AGuest {
		return "guest"
	}
	return string(k)
}
