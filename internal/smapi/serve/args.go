package serve

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"reflinksr/internal/fault"
	"reflinksr/internal/smapi"
)

// Request is a request, and who asks.
type Request struct {
	Request smapi.Request
	Debug   string // dbg
}

// fill makes a request like r of the arguments that set gives, dbg first.
func fill(r smapi.Request, set func(argument smapi.Field, into any) error) (filled Request, err error) {
	if err := set(smapi.Debug, &filled.Debug); err != nil {
		return Request{}, err
	}
	if filled.Request, err = smapi.Fill(r, set); err != nil {
		return Request{}, err
	}
	return filled, nil
}

// parseSize reads a size in decimal. What is no int64 is an invalid size.
func parseSize(name, text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n == 0 && strings.HasPrefix(text, "-") {
		return 0, fault.Errorf(fault.ErrSize, name, "argument %q is %.40s, it must be a whole number of bytes below 2^63", name, text)
	}
	return n, nil
}

func mistyped(argument smapi.Field) error {
	return fault.Errorf(fault.ErrInvalid, argument.Name, "argument %q must be %s", argument.Name, argument.Type)
}

func missing(argument smapi.Field) error {
	return fault.Errorf(fault.ErrInvalid, argument.Name, "argument %q is missing, it must be %s", argument.Name, argument.Type)
}

// Args is a call's command line, taken apart.
type Args struct {
	JSON, Help bool
	positional []string
	pairs      map[string]map[string]string // by the name of the map
}

// ScanArgs takes a command line apart: flags, and --NAME KEY VALUE for those of
// a request's arguments that are maps, may stand anywhere before "--".
func ScanArgs(args []string, r smapi.Request) (Args, error) {
	a := Args{pairs: map[string]map[string]string{}}
	for _, argument := range smapi.ArgumentsOf(r) {
		if argument.Type.Kind == smapi.Map {
			a.pairs[argument.Name] = map[string]string{}
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

// Request reads the positional arguments of a request like r, in the interface's order.
func (a Args) Request(r smapi.Request) (Request, error) {
	rest := a.positional
	filled, err := fill(r, func(argument smapi.Field, into any) error {
		if m, ok := into.(*map[string]string); ok {
			*m = a.pairs[argument.Name]
			return nil
		}
		if len(rest) == 0 {
			return missing(argument)
		}
		word := rest[0]
		rest = rest[1:]
		return setWord(argument, word, into)
	})
	if err != nil {
		return Request{}, err
	}
	if len(rest) > 0 {
		return Request{}, fault.Errorf(fault.ErrInvalid, rest[0], "argument %.80q is one too many", rest[0])
	}
	return filled, nil
}

// setWord reads an argument from the command line. What is no word there is JSON.
func setWord(argument smapi.Field, word string, into any) error {
	switch into := into.(type) {
	case *string:
		*into = word
	case *bool:
		b, err := strconv.ParseBool(strings.ToLower(word))
		if err != nil {
			return mistyped(argument)
		}
		*into = b
	case *int64:
		n, err := parseSize(argument.Name, word)
		if err != nil {
			return err
		}
		*into = n
	default:
		return decode(argument, []byte(word), into)
	}
	return nil
}

// usage prints a call's help.
func usage(w io.Writer, c *smapi.Call) {
	arguments := smapi.ArgumentsOf(c.Request)
	fmt.Fprintf(w, "usage: %s --json  (arguments as one JSON object on standard input)\n       %s", c.Call(), c.Call())
	for _, a := range arguments {
		if a.Type.Kind == smapi.Map {
			fmt.Fprintf(w, " [--%s KEY VALUE]...", a.Name)
		} else {
			fmt.Fprintf(w, " %s", a.Name)
		}
	}
	fmt.Fprintf(w, "\n\n%s\n\narguments:\n", c.About)
	for _, a := range arguments {
		what := a.Type.String()
		if a.About != "" {
			what += ": " + a.About
		}
		fmt.Fprintf(w, "  %-16s %s\n", a.Name, what)
	}
	fmt.Fprintln(w, "\n  -j, --json       read the arguments from standard input\n  -h, --help       show this")
}
