// Package xmlrpc is XML-RPC as the toolstack speaks it: requests, responses and their values as Go's. What is read is foreign: it has
// no document type and so no entities, is of a bounded depth, and names no member twice.
//
// A value is nil, a string (also a date), an int64, a bool, a float64, a []any or a Struct.
package xmlrpc

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Struct is a value with members.
type Struct map[string]any

// Time is a date, as it is written: 20261201T12:00:00Z. Read, it is a string.
type Time string

// Fault is the response that says that there is none.
type Fault struct {
	Code int
	Text string
}

func (f *Fault) Error() string { return fmt.Sprintf("%s (fault %d)", f.Text, f.Code) }

// depth is how deep values may be in each other.
const depth = 32

// ParseRequest reads a methodCall.
func ParseRequest(data []byte) (method string, params []any, err error) {
	p := newParser(data)
	err = p.document("methodCall", func(name string) (err error) {
		switch {
		case name == "methodName" && method == "":
			method, err = p.text(name)
			method = strings.TrimSpace(method)
			return err
		case name == "params" && params == nil:
			params, err = p.params()
			return err
		}
		return unexpected(name, "methodCall")
	})
	if err == nil && method == "" {
		err = errors.New("there is no methodName")
	}
	return method, params, err
}

// ParseResponse reads a methodResponse: its value, or a *Fault as the error.
func ParseResponse(data []byte) (value any, err error) {
	p := newParser(data)
	there := false
	var fault *Fault
	err = p.document("methodResponse", func(name string) error {
		switch {
		case there:
		case name == "params":
			there = true
			params, err := p.params()
			if err == nil && len(params) != 1 {
				err = fmt.Errorf("there are %d values in the response, of 1", len(params))
			}
			if err == nil {
				value = params[0]
			}
			return err
		case name == "fault":
			there = true
			v, err := p.onlyValue("fault", depth)
			if err != nil {
				return err
			}
			s, _ := v.(Struct)
			code, isCode := s["faultCode"].(int64)
			text, isText := s["faultString"].(string)
			if !isCode || !isText {
				return errors.New("the fault has no faultCode and faultString")
			}
			fault = &Fault{Code: int(code), Text: text}
			return nil
		}
		return unexpected(name, "methodResponse")
	})
	switch {
	case err != nil:
		return nil, err
	case fault != nil:
		return nil, fault
	case !there:
		return nil, errors.New("the response is empty")
	}
	return value, nil
}

func unexpected(name, in string) error {
	return fmt.Errorf("<%.40q> does not belong in <%s>", name, in)
}

// parser reads the elements of a document.
type parser struct{ d *xml.Decoder }

func newParser(data []byte) parser {
	d := xml.NewDecoder(bytes.NewReader(data))
	d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		if strings.EqualFold(charset, "us-ascii") {
			return in, nil
		}
		return nil, fmt.Errorf("the encoding is %.40q, of which only UTF-8 is known", charset)
	}
	return parser{d}
}

// next is the next token that means something: a start, an end, or text.
func (p parser) next() (xml.Token, error) {
	for {
		t, err := p.d.Token()
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			if t.Name.Space != "" || len(t.Attr) > 0 {
				return nil, fmt.Errorf("<%.40q> has a namespace or attributes", t.Name.Local)
			}
			return t, nil
		case xml.EndElement, xml.CharData:
			return t, nil
		case xml.Directive:
			return nil, errors.New("there is a document type, or another directive")
		}
	}
}

// document reads all of a document with that root, each child of which do reads.
func (p parser) document(root string, do func(name string) error) error {
	name, err := p.start()
	if err != nil {
		return err
	}
	if name != root {
		return fmt.Errorf("it is a <%.40q>, and no <%s>", name, root)
	}
	if err := p.children(root, do); err != nil {
		return err
	}
	for {
		switch t, err := p.d.Token(); t := t.(type) {
		case nil:
			if err == io.EOF {
				return nil
			}
			return err
		case xml.CharData:
			if strings.TrimSpace(string(t)) != "" {
				return errors.New("something follows the document")
			}
		case xml.Comment:
		default:
			return errors.New("something follows the document")
		}
	}
}

// start is the name of the element that comes next.
func (p parser) start() (string, error) {
	for {
		t, err := p.next()
		if err != nil {
			return "", err
		}
		switch t := t.(type) {
		case xml.StartElement:
			return t.Name.Local, nil
		case xml.CharData:
			if strings.TrimSpace(string(t)) != "" {
				return "", fmt.Errorf("there is a text %.40q where an element should begin", t)
			}
		default:
			return "", errors.New("an element is missing")
		}
	}
}

// children has do read each element in the one that has begun, up to its end.
func (p parser) children(in string, do func(name string) error) error {
	for {
		t, err := p.next()
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.EndElement:
			return nil
		case xml.StartElement:
			if err := do(t.Name.Local); err != nil {
				return err
			}
		case xml.CharData:
			if strings.TrimSpace(string(t)) != "" {
				return fmt.Errorf("there is a text %.40q in <%s>", t, in)
			}
		}
	}
}

// text reads an element of text to its end.
func (p parser) text(in string) (string, error) {
	var b strings.Builder
	for {
		t, err := p.next()
		if err != nil {
			return "", err
		}
		switch t := t.(type) {
		case xml.EndElement:
			return b.String(), nil
		case xml.CharData:
			b.Write(t)
		case xml.StartElement:
			return "", unexpected(t.Name.Local, in)
		}
	}
}
