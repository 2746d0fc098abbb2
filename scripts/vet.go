package scripts

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/tools/txtar"

	"reflinksr/internal/smapi"
	"reflinksr/scripts/scratch"
)

// Mistake is something that a scenario cannot mean.
type Mistake struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Text string `json:"text"`
}

// Vet looks for mistakes in a scenario without running it: verbs and conditions that there are not, numbers of arguments, sizes, calls that are
// not in the interface, requests that are not of its types, variables that nothing has set. A line that expects a refusal may ask for what is
// wrong: there it looks at the verb and the variables alone.
func Vet(file string) (all []Mistake, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	v := &vetting{file: file, set: map[string]bool{}}
	for _, name := range strings.Fields("WORK HOME TMPDIR PATH devnull exe GOCOVERDIR VOLUME DATAPATH FS UUID_A UUID_B UUID_C") {
		v.set[name] = true
	}
	archive := txtar.Parse(data)
	for i, text := range strings.Split(string(archive.Comment), "\n") {
		v.line = i + 1
		v.vet(text)
	}
	return v.mistakes, nil
}

type vetting struct {
	file     string
	line     int
	set      map[string]bool // variables that have been set so far
	mistakes []Mistake
}

func (v *vetting) add(format string, args ...any) {
	v.mistakes = append(v.mistakes, Mistake{v.file, v.line, fmt.Sprintf(format, args...)})
}

// builtin are testscript's own commands.
var builtin = strings.Fields("cd chmod cmp cmpenv cp env exec exists grep kill mkdir mv rm skip stderr stdin stdout stop symlink ttyin ttyout unix2dos unquote wait")

// vet looks at a line.
func (v *vetting) vet(line string) {
	words, err := split(line, func(name string) string {
		if identifier.MatchString(name) {
			v.variable(name)
		}
		return "${" + name + "}"
	})
	if err != nil {
		v.add("%v", err)
		return
	}
	for len(words) > 0 && strings.HasPrefix(words[0], "[") && strings.HasSuffix(words[0], "]") {
		v.condition(strings.Trim(words[0], "[]! "))
		words = words[1:]
	}
	not := len(words) > 0 && words[0] == "!"
	if not || len(words) > 0 && words[0] == "?" {
		words = words[1:]
	}
	if len(words) == 0 {
		return
	}
	name, args := words[0], words[1:]
	if slices.Contains(builtin, name) {
		v.own(name, args)
		return
	}
	i := slices.IndexFunc(table, func(known verb) bool { return known.name == name })
	switch {
	case i < 0:
		v.add("there is no verb %q%s", name, nearest(name, append(verbNames(), builtin...)))
		return
	case not && !strings.HasPrefix(table[i].usage, "[!]"):
		v.add("! does not go with %s", name)
	}
	if len(args) < least(table[i].usage) {
		v.add("%s wants more words: %s", name, table[i].usage)
		return
	}
	v.verb(name, args, not)
	for _, name := range sets(name, args) {
		v.set[name] = true
	}
}

func verbNames() (all []string) {
	for _, v := range table {
		all = append(all, v.name)
	}
	return all
}

// least is how many words follow a verb at least, by its usage: of the shortest way to use it.
func least(usage string) int {
	fewest, name := -1, ""
	for way := range strings.SplitSeq(strings.TrimPrefix(usage, "[!] "), " | ") {
		words := strings.Fields(way)
		if fewest < 0 {
			name = words[0]
		}
		if words[0] == name {
			words = words[1:]
		}
		n := 0
		for _, w := range words {
			if !strings.HasPrefix(w, "[") && !strings.HasSuffix(w, "]") && !strings.HasSuffix(w, "]...") {
				n++
			}
		}
		if fewest < 0 || n < fewest {
			fewest = n
		}
	}
	return fewest
}

var conditionKinds = []string{"root", "own", "race", "fs", "can", "feature", "call", "exec", "short", "net", "link", "symlink", "gc", "gccgo", "unix", "linux", "windows", "darwin", "amd64", "arm64"}

// condition looks at what a line depends on.
func (v *vetting) condition(text string) {
	kind, arg, _ := strings.Cut(text, ":")
	switch {
	case strings.HasPrefix(kind, "go1."):
	case !slices.Contains(conditionKinds, kind):
		v.add("there is no condition [%s]%s", text, nearest(kind, conditionKinds))
	case kind == "fs" || kind == "can":
		if !slices.Contains(scratch.Kinds(), arg) {
			v.add("there is no filesystem %q%s", arg, nearest(arg, scratch.Kinds()))
		}
	case kind == "call":
		v.method(arg)
	}
}

// identifier is the name of a variable.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// variable looks whether a variable has been set.
func (v *vetting) variable(name string) {
	if !v.set[name] && os.Getenv(name) == "" {
		v.add("nothing has set $%s%s", name, nearest(name, slices.Sorted(maps.Keys(v.set))))
		v.set[name] = true // it is said once
	}
}

// own looks at one of testscript's commands.
func (v *vetting) own(name string, args []string) {
	switch name {
	case "env":
		for _, arg := range args {
			if name, _, given := strings.Cut(arg, "="); given {
				v.set[name] = true
			}
		}
	case "stdout", "stderr", "grep":
		for i, arg := range args {
			if strings.HasPrefix(arg, "-count=") || i > 0 && !strings.HasPrefix(args[i-1], "-count=") {
				continue
			}
			if _, err := regexp.Compile("(?m)" + arg); err != nil && !strings.Contains(arg, "$") {
				v.add("%v", err)
			}
		}
	}
}

// method looks whether a call is one of the interface.
func (v *vetting) method(name string) *smapi.Call {
	if _, of, found := strings.Cut(name, "/"); found {
		name = of
	}
	c := smapi.Find(name)
	if c == nil && !strings.Contains(name, "$") {
		v.add("there is no call %s in the interface%s", name, nearest(name, smapi.Names()))
	}
	return c
}

// sized says which words of a verb are numbers of bytes.
var sized = map[string][]int{"volume": {1}, "fill": {1, 2}, "zero": {1, 2}, "scatter": {1}, "shared": {1}, "exclusive": {1}, "within": {2}}

// verb looks at the words of one of ours.
func (v *vetting) verb(name string, args []string, not bool) {
	for _, i := range sized[name] {
		if i < len(args) && !strings.Contains(args[i], "$") && !not {
			if _, err := ParseBytes(args[i]); err != nil {
				v.add("%s: %v", name, err)
			}
		}
	}
	switch {
	case name == "retry" && len(args) > 1:
		if _, err := time.ParseDuration(args[0]); err != nil {
			v.add("retry: %v", err)
		}
		rest, no := args[1:], false
		if rest[0] == "!" && len(rest) > 1 {
			rest, no = rest[1:], true
		}
		if !slices.Contains(verbNames(), rest[0]) {
			v.add("there is no verb %q%s", rest[0], nearest(rest[0], verbNames()))
			return
		}
		v.verb(rest[0], rest[1:], no)
	case name == "needs":
		for _, arg := range args {
			v.method(arg)
		}
	case name == "call":
		text := "{}"
		if len(args) > 1 {
			text = args[1]
		}
		text = v.replaced(text)
		if not {
			return
		}
		if c := v.method(args[0]); c != nil {
			v.request(c.Request, text)
		}
	case name == "refused" && len(args) > 0:
		v.code(args[0])
	}
}

// code looks whether something can be refused with that.
func (v *vetting) code(text string) {
	if strings.Contains(text, "$") || strings.Trim(text, "0123456789") == "" {
		return
	}
	var names []string
	for _, e := range smapi.NamedErrors {
		names = append(names, e.Name)
	}
	if !slices.Contains(names, text) {
		v.add("no error of the interface is called %s%s", text, nearest(text, names))
	}
}

// unknown is in the place of a variable's value.
const unknown = "\x00"

// request looks whether a request, whose variables are replaced, has the arguments of its call, of their types as far as they do not come from variables.
func (v *vetting) request(r smapi.Request, text string) {
	var args map[string]any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&args); err != nil {
		v.add("the request is no JSON object: %v", err)
		return
	}
	if d.More() {
		v.add("something follows the request")
	}
	var missing []string
	for _, f := range smapi.ArgumentsOf(r) {
		value, given := args[f.Name]
		if !given {
			missing = append(missing, f.Name)
		}
		switch {
		case !given && !f.Optional && f.Name != "dbg": // which the verb adds
			v.add("%s wants the argument %q", r.Call(), f.Name)
		case given && !depends(value):
			if err := checkType(f.Name, f.Type, value); err != nil {
				v.add("%s: %v", r.Call(), err)
			}
		}
	}
	// What a call does not know it overlooks; but what is like something that is missing was meant to be that.
	known := smapi.ArgumentsOf(r)
	for _, name := range slices.Sorted(maps.Keys(args)) {
		is := slices.ContainsFunc(known, func(f smapi.Field) bool { return f.Name == name })
		if like := nearest(name, missing); !is && like != "" {
			v.add("%s has no argument %q%s", r.Call(), name, like)
		}
	}
}

// replaced is a request with unknown in the place of every variable, at which it looks.
func (v *vetting) replaced(text string) string {
	out, _ := replaceIn(text, func(name string, inString bool) (string, error) {
		v.variable(name)
		if inString {
			return `\u0000`, nil
		}
		return `"\u0000"`, nil
	})
	return out
}

// depends says whether a value has something in it that comes from a variable.
func depends(value any) bool {
	switch value := value.(type) {
	case string:
		return strings.Contains(value, unknown)
	case []any:
		return slices.ContainsFunc(value, depends)
	case map[string]any:
		for name, of := range value {
			if strings.Contains(name, unknown) || depends(of) {
				return true
			}
		}
	}
	return false
}

// sets are the variables that a verb sets.
func sets(name string, args []string) (all []string) {
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch name {
	case "fs":
		all = []string{"MNT"}
		if arg(2) != "" {
			all = []string{strings.ToUpper(arg(2))}
		}
	case "blockdevice":
		all = []string{strings.ToUpper(arg(0))}
	case "conf", "sr":
		of := arg(0)
		if of == "" || strings.Contains(of, "=") {
			of = "SR"
		}
		all = []string{of + "_PATH", of + "_UUID", of + "_CONF", "MNT"}
		if name == "sr" {
			all = append(all, of)
		}
	case "volume", "get", "free", "extents":
		all = []string{arg(0)}
	case "plug":
		all = []string{"DEV"}
	case "domain":
		all = map[string][]string{"plug": {"DEV"}, "snapshot": {"SNAP"}}[arg(0)]
	case "nbd":
		if arg(0) == "connect" {
			all = []string{strings.ToUpper(arg(1)) + "_SOCKET"}
		}
	case "cloud":
		all = []string{"MNT", "FE", "HOST1", "HOST2", "LOCATION", "SYSTEM", "IMAGES"}
	case "ds":
		all = []string{"ANSWER", "SOURCE", "FORMAT", "SSH"}
	case "sm":
		all = []string{"ANSWER", "DEV", "VDI", "SR_UUID", "SR_PATH", "SR", "MNT"}
	case "tm":
		all = []string{"SSH"}
	case "retry":
		if len(args) > 1 {
			all = sets(args[1], args[2:])
		}
	}
	return all
}

// nearest is a suggestion: what is known and like a word, if anything is.
func nearest(word string, known []string) string {
	best, by := "", 1+len(word)/3
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d <= by && (best == "" || d < by) {
			best, by = k, d
		}
	}
	if best == "" {
		return ""
	}
	return ": is it " + best + "?"
}

// distance is how many letters have to be put in, left out or changed to make one word of another.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j]+1, before+1)
		}
	}
	return row[len(b)]
}

// PrintMistakes prints mistakes as compilers do.
func PrintMistakes(out io.Writer, all []Mistake) {
	for _, m := range all {
		fmt.Fprintf(out, "%s:%d: %s\n", m.File, m.Line, m.Text)
	}
}
