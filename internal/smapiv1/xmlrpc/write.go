package xmlrpc

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Request is a methodCall.
func Request(method string, params ...any) []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header[:len(xml.Header)-1] + "<methodCall><methodName>")
	escape(&b, method)
	b.WriteString("</methodName><params>")
	for _, v := range params {
		b.WriteString("<param>")
		write(&b, v)
		b.WriteString("</param>")
	}
	b.WriteString("</params></methodCall>")
	return b.Bytes()
}

// Response is a methodResponse.
func Response(value any) []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header[:len(xml.Header)-1] + "<methodResponse><params><param>")
	write(&b, value)
	b.WriteString("</param></params></methodResponse>\n")
	return b.Bytes()
}

// Response is the methodResponse of a fault.
func (f *Fault) Response() []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header[:len(xml.Header)-1] + "<methodResponse><fault>")
	write(&b, Struct{"faultCode": f.Code, "faultString": f.Text})
	b.WriteString("</fault></methodResponse>\n")
	return b.Bytes()
}

func escape(b *bytes.Buffer, text string) {
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	xml.EscapeText(b, []byte(text))
}

// write writes a value. One of a type that has none here is a mistake of the program's.
func write(b *bytes.Buffer, v any) {
	b.WriteString("<value>")
	defer b.WriteString("</value>")
	switch v := v.(type) {
	case nil:
		b.WriteString("<nil/>")
	case string:
		b.WriteString("<string>")
		escape(b, v)
		b.WriteString("</string>")
	case Time:
		b.WriteString("<dateTime.iso8601>")
		escape(b, string(v))
		b.WriteString("</dateTime.iso8601>")
	case bool:
		fmt.Fprintf(b, "<boolean>%d</boolean>", map[bool]int{true: 1}[v])
	case int:
		fmt.Fprintf(b, "<int>%d</int>", v)
	case int64:
		fmt.Fprintf(b, "<int>%d</int>", v)
	case float64:
		fmt.Fprintf(b, "<double>%s</double>", strconv.FormatFloat(v, 'g', -1, 64))
	case []string:
		b.WriteString("<array><data>")
		for _, item := range v {
			write(b, item)
		}
		b.WriteString("</data></array>")
	case []any:
		b.WriteString("<array><data>")
		for _, item := range v {
			write(b, item)
		}
		b.WriteString("</data></array>")
	case map[string]string:
		b.WriteString("<struct>")
		for _, name := range slices.Sorted(maps.Keys(v)) {
			writeMember(b, name, v[name])
		}
		b.WriteString("</struct>")
	case Struct:
		b.WriteString("<struct>")
		for _, name := range slices.Sorted(maps.Keys(v)) {
			writeMember(b, name, v[name])
		}
		b.WriteString("</struct>")
	default:
		panic(fmt.Sprintf("a %T has no form in XML-RPC", v))
	}
}

func writeMember(b *bytes.Buffer, name string, v any) {
	b.WriteString("<member><name>")
	escape(b, name)
	b.WriteString("</name>")
	write(b, v)
	b.WriteString("</member>")
}
