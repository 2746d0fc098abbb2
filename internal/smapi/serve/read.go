package serve

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"unicode/utf8"

	"reflinksr/internal/fault"
	"reflinksr/internal/smapi"
)

// RequestLimit bounds a request, in bytes.
const RequestLimit = 1 << 20

// depthLimit bounds the nesting of a request: ours have two levels.
const depthLimit = 64

// ReadJSON reads a request like r: exactly one JSON object, without duplicate members, in valid
// UTF-8. Members that are no arguments of it are ignored.
func ReadJSON(in io.Reader, r smapi.Request) (Request, error) {
	data, err := io.ReadAll(io.LimitReader(in, RequestLimit+1))
	if err != nil {
		return Request{}, malformed("reading it: %v", err)
	}
	if len(data) > RequestLimit {
		return Request{}, malformed("it has more than %d bytes", RequestLimit)
	}
	members, err := parseObject(data)
	if err != nil {
		return Request{}, err
	}
	return fill(r, func(argument smapi.Field, into any) error {
		raw, ok := members[argument.Name]
		if !ok || string(raw) == "null" {
			return missing(argument)
		}
		return decode(argument, raw, into)
	})
}

// decode reads an argument. Numbers and maps, of which Go's reader lets too much pass, are looked
// at here.
func decode(argument smapi.Field, raw json.RawMessage, into any) error {
	switch into := into.(type) {
	case *int64:
		if c := raw[0]; c != '-' && (c < '0' || c > '9') {
			return mistyped(argument)
		}
		n, err := parseSize(argument.Name, string(raw))
		*into = n
		return err
	case *map[string]string:
		var m map[string]*string // a pointer, to tell null from ""
		if err := json.Unmarshal(raw, &m); err != nil || m == nil {
			return mistyped(argument)
		}
		*into = make(map[string]string, len(m))
		for k, v := range m {
			if v == nil {
				return mistyped(argument)
			}
			(*into)[k] = *v
		}
	default:
		if err := json.Unmarshal(raw, into); err != nil {
			return mistyped(argument)
		}
	}
	return nil
}

func malformed(format string, args ...any) error {
	return fault.Errorf(fault.ErrInvalid, "request", "the request on standard input is no good: "+format, args...)
}

// parseObject checks data and returns the members of the one object in it.
// encoding/json by itself lets the last of duplicate members win, replaces
// invalid UTF-8 and matches names in any case.
func parseObject(data []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(data) {
		return nil, malformed("it is not valid UTF-8")
	}
	if err := check(data); err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil || members == nil {
		return nil, malformed("it is not a JSON object")
	}
	return members, nil
}

// check walks over the tokens of one JSON value and refuses what Unmarshal lets pass.
func check(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	type level struct {
		names map[string]bool // nil in an array
		name  bool            // the next token is a member's name
	}
	var open []level
	for {
		token, err := dec.Token()
		if err == io.EOF {
			return malformed("it is empty or cut short")
		}
		if err != nil {
			return malformed("%v", err)
		}
		switch t := token.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				if len(open) == depthLimit {
					return malformed("it is nested more than %d levels deep", depthLimit)
				}
				l := level{}
				if t == '{' {
					l = level{names: map[string]bool{}, name: true}
				}
				open = append(open, l)
				continue
			}
			open = open[:len(open)-1]
		case string:
			if n := len(open); n > 0 && open[n-1].name {
				if open[n-1].names[t] {
					return malformed("member %.80q is there twice", t)
				}
				open[n-1].names[t] = true
				open[n-1].name = false
				continue
			}
		}
		if n := len(open); n > 0 {
			open[n-1].name = open[n-1].names != nil
			continue
		}
		break
	}
	if loneSurrogate(data) {
		return malformed("it has a \\u escape that is half a character")
	}
	if rest := bytes.TrimLeft(data[dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return malformed("something follows the JSON object: %.20q", rest)
	}
	return nil
}

// loneSurrogate says whether data, which begins with valid JSON, has a \uD800…\uDFFF escape that is not part of a pair.
func loneSurrogate(data []byte) bool {
	surrogate := func(i int) (high, low bool) {
		if i+6 > len(data) || data[i] != '\\' || data[i+1] != 'u' {
			return false, false
		}
		hex := strings.ToLower(string(data[i+2 : i+4]))
		if hex[0] != 'd' {
			return false, false
		}
		return hex[1] >= '8' && hex[1] <= 'b', hex[1] >= 'c' && hex[1] <= 'f'
	}
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		if high, low := surrogate(i); low {
			return true
		} else if high {
			if _, low := surrogate(i + 6); !low {
				return true
			}
			i += 6
		}
		i++ // past the escaped character
	}
	return false
}
