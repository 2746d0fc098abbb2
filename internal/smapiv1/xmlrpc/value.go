package xmlrpc

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

func (p parser) params() ([]any, error) {
	all := []any{}
	err := p.children("params", func(name string) error {
		if name != "param" {
			return unexpected(name, "params")
		}
		v, err := p.onlyValue("param", depth)
		all = append(all, v)
		return err
	})
	return all, err
}

// onlyValue reads an element with one value in it.
func (p parser) onlyValue(in string, deep int) (v any, err error) {
	n := 0
	err = p.children(in, func(name string) error {
		if n++; name != "value" || n > 1 {
			return unexpected(name, in)
		}
		v, err = p.value(deep)
		return err
	})
	if err == nil && n == 0 {
		err = fmt.Errorf("there is no value in <%s>", in)
	}
	return v, err
}

// value reads what is in a <value>: a text alone is a string.
func (p parser) value(deep int) (v any, err error) {
	if deep == 0 {
		return nil, errors.New("values are too deep in each other")
	}
	var bare strings.Builder
	typed := false
	for {
		t, err := p.next()
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.CharData:
			bare.Write(t)
		case xml.StartElement:
			if typed {
				return nil, unexpected(t.Name.Local, "value")
			}
			typed = true
			if v, err = p.typed(t.Name.Local, deep); err != nil {
				return nil, err
			}
		case xml.EndElement:
			if !typed {
				return bare.String(), nil
			}
			if strings.TrimSpace(bare.String()) != "" {
				return nil, fmt.Errorf("there is a text %.40q beside a value's type", bare.String())
			}
			return v, nil
		}
	}
}

func (p parser) typed(kind string, deep int) (any, error) {
	switch kind {
	case "struct":
		return p.structure(deep)
	case "array":
		return p.array(deep)
	}
	text, err := p.text(kind)
	if err != nil {
		return nil, err
	}
	switch trimmed := strings.TrimSpace(text); kind {
	case "string", "dateTime.iso8601":
		return text, nil
	case "int", "i4", "i8":
		return strconv.ParseInt(trimmed, 10, 64)
	case "double":
		return strconv.ParseFloat(trimmed, 64)
	case "boolean":
		if trimmed != "0" && trimmed != "1" {
			return nil, fmt.Errorf("a boolean is %.40q", trimmed)
		}
		return trimmed == "1", nil
	case "base64":
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
		return string(data), err
	case "nil":
		if trimmed != "" {
			return nil, fmt.Errorf("a nil is %.40q", trimmed)
		}
		return nil, nil
	}
	return nil, fmt.Errorf("there is no type %.40q", kind)
}

func (p parser) structure(deep int) (Struct, error) {
	all := Struct{}
	err := p.children("struct", func(name string) error {
		if name != "member" {
			return unexpected(name, "struct")
		}
		member, named, has := "", false, false
		var v any
		err := p.children("member", func(name string) (err error) {
			switch {
			case name == "name" && !named:
				named = true
				member, err = p.text(name)
			case name == "value" && !has:
				has = true
				v, err = p.value(deep - 1)
			default:
				err = unexpected(name, "member")
			}
			return err
		})
		if err != nil {
			return err
		}
		if !named || !has {
			return errors.New("a member of a struct has no name or no value")
		}
		if _, twice := all[member]; twice {
			return fmt.Errorf("the member %.40q is there twice", member)
		}
		all[member] = v
		return nil
	})
	return all, err
}

func (p parser) array(deep int) ([]any, error) {
	all, there := []any{}, false
	err := p.children("array", func(name string) error {
		if name != "data" || there {
			return unexpected(name, "array")
		}
		there = true
		return p.children("data", func(name string) error {
			if name != "value" {
				return unexpected(name, "data")
			}
			v, err := p.value(deep - 1)
			all = append(all, v)
			return err
		})
	})
	return all, err
}
