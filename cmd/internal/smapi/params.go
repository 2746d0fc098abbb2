package smapi

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"reflinksr/internal/fault"
)

// Kind is the type of an argument.
type Kind int

// The types that arguments have.
const (
	Text Kind = iota
	Size      // int64, bytes
	Bool
	Map // string to string
)

var kindNames = map[Kind]string{Text: "a string", Size: "a whole number", Bool: "true or false", Map: "an object of strings"}

// Param is one named argument of a call.
type Param struct {
	Name string
	Kind Kind
}

// Params reads a signature: names in the interface's order, separated by blanks,
// each with its kind (":size", ":bool", ":map") unless it is a string.
func Params(signature string) []Param {
	var params []Param
	for word := range strings.FieldsSeq(signature) {
		name, kind, _ := strings.Cut(word, ":")
		params = append(params, Param{name, map[string]Kind{"": Text, "size": Size, "bool": Bool, "map": Map}[kind]})
	}
	return params
}

// Request holds the arguments of a call. Every parameter of its signature is there.
type Request struct {
	text  map[string]string
	sizes map[string]int64
	bools map[string]bool
	maps  map[string]map[string]string
}

func newRequest() *Request {
	return &Request{map[string]string{}, map[string]int64{}, map[string]bool{}, map[string]map[string]string{}}
}

// Text is an argument of the kind Text; "" if the signature has none of the name.
func (r *Request) Text(name string) string { return r.text[name] }

// Size is an argument of the kind Size, in bytes; 0 if the signature has none of the name.
func (r *Request) Size(name string) int64 { return r.sizes[name] }

// Bool is an argument of the kind Bool; false if the signature has none of the name.
func (r *Request) Bool(name string) bool { return r.bools[name] }

// Map is an argument of the kind Map; nil if the signature has none of the name.
func (r *Request) Map(name string) map[string]string { return r.maps[name] }

// set stores a positional argument.
func (r *Request) set(p Param, word string) error {
	switch p.Kind {
	case Text:
		r.text[p.Name] = word
	case Bool:
		b, err := strconv.ParseBool(strings.ToLower(word))
		if err != nil {
			return mistyped(p)
		}
		r.bools[p.Name] = b
	case Size:
		n, err := parseSize(p.Name, word)
		if err != nil {
			return err
		}
		r.sizes[p.Name] = n
	}
	return nil
}

// parseSize reads a size in decimal. What is no int64 is ErrSize.
func parseSize(name, text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n == 0 && strings.HasPrefix(text, "-") {
		return 0, fault.Errorf(fault.ErrSize, name, "argument %q is %.40s, it must be a whole number of bytes below 2^63", name, text)
	}
	return n, nil
}

func mistyped(p Param) error {
	return fault.Errorf(fault.ErrInvalid, p.Name, "argument %q must be %s", p.Name, kindNames[p.Kind])
}

func missing(p Param) error {
	return fault.Errorf(fault.ErrInvalid, p.Name, "argument %q is missing, it must be %s", p.Name, kindNames[p.Kind])
}

// Args is a call's command line, taken apart.
type Args struct {
	JSON, Help bool
	positional []string
	pairs      map[string]map[string]string // by the name of the map
}

// ScanArgs takes a command line apart: flags, and --NAME KEY VALUE for the maps of
// params, may stand anywhere before "--".
func ScanArgs(args []string, params []Param) (Args, error) {
	a := Args{pairs: map[string]map[string]string{}}
	for _, p := range params {
		if p.Kind == Map {
			a.pairs[p.Name] = map[string]string{}
		}
	}
	for i := 0; i < len(args); i++ {
		name, _ := strings.CutPrefix(args[i], "--")
		switch m := a.pairs[name]; {
		case args[i] == "--":
			a.positional = append(a.positional, args[i+1:]...)
			return a, nil
		case args[i] == "-j", args[i] == "--json":
			a.JSON = true
		case args[i] == "-h", args[i] == "--help":
			a.Help = true
		case m != nil && args[i] == "--"+name:
			if i+2 >= len(args) {
				return a, fault.Errorf(fault.ErrInvalid, name, "--%s needs a key and a value", name)
			}
			if _, twice := m[args[i+1]]; twice {
				return a, fault.Errorf(fault.ErrInvalid, name, "--%s %.80q is there twice", name, args[i+1])
			}
			m[args[i+1]] = args[i+2]
			i += 2
		default:
			a.positional = append(a.positional, args[i])
		}
	}
	return a, nil
}

// Request reads the positional arguments in the order of params.
func (a Args) Request(params []Param) (*Request, error) {
	r := newRequest()
	rest := a.positional
	for _, p := range params {
		if p.Kind == Map {
			r.maps[p.Name] = a.pairs[p.Name]
			continue
		}
		if len(rest) == 0 {
			return nil, missing(p)
		}
		if err := r.set(p, rest[0]); err != nil {
			return nil, err
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		return nil, fault.Errorf(fault.ErrInvalid, rest[0], "argument %.80q is one too many", rest[0])
	}
	return r, nil
}

// Usage prints a call's help.
func Usage(w io.Writer, call, about string, params []Param) {
	fmt.Fprintf(w, "usage: %s --json  (arguments as one JSON object on standard input)\n       %s", call, call)
	for _, p := range params {
		if p.Kind == Map {
			fmt.Fprintf(w, " [--%s KEY VALUE]...", p.Name)
		} else {
			fmt.Fprintf(w, " %s", p.Name)
		}
	}
	fmt.Fprintf(w, "\n\n%s\n", about)
	if len(params) > 0 {
		fmt.Fprintln(w, "\narguments:")
	}
	for _, p := range params {
		fmt.Fprintf(w, "  %-16s %s\n", p.Name, kindNames[p.Kind])
	}
	fmt.Fprintln(w, "\n  -j, --json       read the arguments from standard input\n  -h, --help       show this")
}
