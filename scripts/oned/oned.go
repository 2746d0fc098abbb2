package oned

import (
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"time"
)

// Daemon answers what drivers ask oned: one.vm.info, one.image.info and one.datastore.info.
type Daemon struct {
	Address string // of its XML-RPC
	server  *http.Server
}

// Start begins to answer on this host. tell is the XML of a vm, an image or a datastore.
func Start(session string, tell func(kind, id string) (string, error)) (*Daemon, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &Daemon{Address: "http://" + l.Addr().String() + "/RPC2"}
	d.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r, session, tell) })}
	go d.server.Serve(l)
	return d, nil
}

// Stop ends it.
func (d *Daemon) Stop() { d.server.Close() }

var (
	number = regexp.MustCompile(`^[0-9]+$`)
	method = regexp.MustCompile(`^one\.(vm|image|datastore)\.info$`)
)

func answer(w http.ResponseWriter, r *http.Request, session string, tell func(kind, id string) (string, error)) {
	var call struct {
		Method string `xml:"methodName"`
		Params []struct {
			Text string `xml:"value>string"`
			Int  string `xml:"value>int"`
		} `xml:"params>param"`
	}
	data, err := io.ReadAll(r.Body)
	if err == nil {
		err = xml.Unmarshal(data, &call)
	}
	kind := method.FindStringSubmatch(call.Method)
	if err != nil || kind == nil || len(call.Params) < 2 || !number.MatchString(call.Params[1].Int) {
		http.Error(w, fmt.Sprintf("not understood: %q", data), http.StatusBadRequest)
		return
	}
	ok, text := "1", ""
	if call.Params[0].Text != session {
		err = fmt.Errorf("[%s] the user is not known", call.Method)
	} else {
		text, err = tell(kind[1], call.Params[1].Int)
	}
	if err != nil {
		ok, text = "0", err.Error()
	}
	fmt.Fprintf(w, `<?xml version="1.0"?><methodResponse><params><param><value><array><data><value><boolean>%s</boolean></value><value><string>`, ok)
	xml.EscapeText(w, []byte(text))
	fmt.Fprint(w, `</string></value><value><i4>0</i4></value></data></array></value></param></params></methodResponse>`)
}
