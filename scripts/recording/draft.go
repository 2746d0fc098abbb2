package recording

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"reflinksr/internal/smapi"
)

// pause between calls begins a new phase of a draft.
const pause = time.Second

// Draft turns a recording into a scenario to be edited: the same calls, made on an
// SR of its own, with what answers introduced as variables. Calls stand in the
// order of their answers, so a value is there before it is used.
func Draft(name string, calls []Call) string {
	calls = slices.Clone(calls)
	slices.SortStableFunc(calls, func(a, b Call) int { return a.end().Compare(b.end()) })
	d := draft{known: map[string]*variable{}, counts: map[string]int{}, paths: map[string]string{}}
	began := ""
	if len(calls) > 0 {
		began = ", begun " + calls[0].Time.Format("2006-01-02 15:04:05 -0700")
	}
	d.comment("%s: a draft from a recording of %d calls%s. Say here what it shows.", name, len(calls), began)
	for len(calls) > 0 {
		n := 1
		for n < len(calls) && calls[n].Time.Sub(calls[n-1].end()) <= pause {
			n++
		}
		d.line("")
		d.comment("%s: %s.", calls[0].Time.Format("15:04:05"), names(calls[:n]))
		for _, c := range calls[:n] {
			d.call(c)
		}
		calls = calls[n:]
	}
	return d.String()
}

// names lists each kind of call once.
func names(calls []Call) string {
	var list []string
	for _, c := range calls {
		if !slices.Contains(list, c.Call) {
			list = append(list, c.Call)
		}
		if len(list) == 6 {
			list[5] = "…"
			break
		}
	}
	return strings.Join(list, ", ")
}

// draft is a scenario being written.
type draft struct {
	lines    []line
	known    map[string]*variable // by kind and value
	counts   map[string]int       // of variables by stem
	paths    map[string]string    // of SRs, as the scenario has them
	uuids    int
	hasSR    bool // the sr verb was used
	hasMount bool
}

// line is text, or the get of a variable that may turn out not to be used.
type line struct {
	text string
	get  *variable
}

// variable is named when it is first used.
type variable struct{ stem, name, path string }

func (d *draft) line(text string) { d.lines = append(d.lines, line{text: text}) }

func (d *draft) comment(format string, args ...any) {
	d.line("# " + oneLine(fmt.Sprintf(format, args...), 400))
}

func (d *draft) String() string {
	var b strings.Builder
	for _, l := range d.lines {
		if l.get == nil {
			b.WriteString(l.text + "\n")
		} else if l.get.name != "" {
			fmt.Fprintf(&b, "get %s %s\n", l.get.name, l.get.path)
		}
	}
	return b.String()
}

func (d *draft) introduce(kind, value, stem, path string) *variable {
	v := &variable{stem: stem, path: path}
	d.known[kind+" "+value] = v
	d.lines = append(d.lines, line{get: v})
	return v
}

// use is what stands for a value; ok is false if no answer introduced it.
func (d *draft) use(kind, value string) (name string, ok bool) {
	v := d.known[kind+" "+value]
	if v == nil {
		return "", false
	}
	d.name(v)
	return "$" + v.name, true
}

func (d *draft) name(v *variable) {
	if v.name != "" {
		return
	}
	d.counts[v.stem]++
	v.name = v.stem
	if n := d.counts[v.stem]; n > 1 {
		v.name += strconv.Itoa(n)
	}
}

func (d *draft) call(c Call) {
	at := c.Time.Format("15:04:05")
	args, isObject := members(c.Request)
	r := c.refusal()
	switch {
	case !smapi.IsName(c.Call):
		d.comment("%s: %q is no call of the interface", at, c.Call)
		return
	case !slices.Contains(c.Args, "--json") && !slices.Contains(c.Args, "-j"):
		d.comment("%s: %s was called by hand: %q", at, c.Call, c.Args)
		return
	case len(c.Request) == 0:
		d.comment("%s: the request of %s is not JSON, or was too long: %s", at, c.Call, c.RequestText)
		return
	case c.Signal != "":
		d.comment("%s: %s was ended by %s; its request was %s", at, c.Call, c.Signal, c.Request)
		return
	case c.Status == 0 && len(c.Answer) == 0 || c.Status != 0 && r == nil:
		d.comment("%s: %s exited %d, and its answer was not of the interface: %s%s", at, c.Call, c.Status, c.Answer, c.AnswerText)
		return
	}
	request := compact(c.Request)
	if isObject {
		request = d.request(c, args)
	}
	verb := "call"
	if r != nil {
		verb = "! call"
	}
	d.line(verb + " " + method(c, args) + " " + quote(request))
	if r != nil {
		d.refused(r)
	} else {
		d.answer(c)
	}
}

var simpleName = regexp.MustCompile(`^[A-Za-z0-9_.+-]+$`)

// method names the plugin too where the language would not find it by the URI.
func method(c Call, args []member) string {
	if !c.toDatapath() || !simpleName.MatchString(c.Plugin) {
		return c.Call
	}
	for _, m := range args {
		uri, _ := text(m.value)
		if u, err := url.Parse(uri); m.name == "uri" && err == nil && u.Scheme == c.Plugin {
			return c.Call
		}
	}
	return c.Plugin + "/" + c.Call
}

// kind says what an argument of a call names that an answer may have introduced: "sr", "key" or
// "uri"; "" if it is something else. A value that is stored may be a key.
func kind(call, argument string) string {
	c := smapi.Find(call)
	if c == nil {
		return ""
	}
	if c.Call() == (smapi.VolumeSet{}).Call() && argument == "v" {
		return "key"
	}
	for _, a := range smapi.ArgumentsOf(c.Request) {
		if a.Name == argument {
			return a.Is
		}
	}
	return ""
}

func (d *draft) request(c Call, args []member) string {
	var parts []string
	for _, m := range args {
		value := ""
		s, isText := text(m.value)
		kind := kind(c.Call, m.name)
		switch {
		case m.name == "dbg":
			continue
		case m.name == "configuration":
			value = d.configuration(c, m.value)
		case m.name == "uuid" && isText && c.Call == "SR.create":
			value = d.uuid(s)
		case m.name == "v" && len(s) < 8: // a short one may be anything
		case isText && kind != "":
			if kind == "sr" {
				d.unknownSR(s)
			}
			if name, ok := d.use(kind, s); ok {
				value = `"` + name + `"`
			}
		}
		if value == "" {
			value = compact(m.value)
		}
		parts = append(parts, literal(m.name)+":"+value)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// uuid gives an SR one of the scenario's.
func (d *draft) uuid(s string) string {
	if s == "" {
		return literal(s)
	}
	if name, ok := d.use("uuid", s); ok {
		return `"` + name + `"`
	}
	if d.uuids == 3 {
		return literal(s)
	}
	name := "UUID_" + string(rune('A'+d.uuids))
	d.uuids++
	d.known["uuid "+s] = &variable{name: name}
	return `"$` + name + `"`
}

// unknownSR makes an SR for a handle from before the recording.
func (d *draft) unknownSR(handle string) {
	if d.known["sr "+handle] != nil || d.hasSR || d.counts["SR"] > 0 {
		return
	}
	d.line("sr")
	d.hasSR, d.hasMount, d.counts["SR"] = true, true, 1
	d.known["sr "+handle] = &variable{name: "SR"}
}

// configuration puts an SR where the scenario may make one.
func (d *draft) configuration(c Call, raw json.RawMessage) string {
	if name, ok := d.use("conf", canonical(raw)); ok {
		return name
	}
	list, ok := members(raw)
	if !ok {
		return ""
	}
	// A directory has another name with every plugin.
	for _, m := range list {
		path, _ := text(m.value)
		if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "/dev/") || d.paths[path] != "" {
			continue
		}
		handle, _ := text(c.Answer)
		switch {
		case c.Call == "SR.attach" && c.Status == 0 && handle != "":
			// It was made before the recording.
			if d.unknownSR(handle); d.known["sr "+handle] != nil {
				d.known["conf "+canonical(raw)] = &variable{name: "SR_CONF"}
				d.paths[path] = "$SR_PATH"
				return "$SR_CONF"
			}
		case c.Call == "SR.create":
			if !d.hasMount {
				d.line("fs")
				d.hasMount = true
			}
			d.paths[path] = "$MNT/disks"
			if n := len(d.paths); n > 1 {
				d.paths[path] += strconv.Itoa(n)
			}
			d.line("mkdir " + d.paths[path])
		}
	}
	var parts []string
	for _, m := range list {
		value := compact(m.value)
		if s, ok := text(m.value); ok && d.paths[s] != "" {
			value = `"` + d.paths[s] + `"`
		} else if name, known := d.use("uuid", s); ok && known {
			value = `"` + name + `"`
		}
		parts = append(parts, literal(m.name)+":"+value)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// refused writes what is checked of a refusal.
func (d *draft) refused(r *smapi.Failure) {
	number, isNumbered := strings.CutPrefix(r.Code, "SR_BACKEND_FAILURE_")
	_, err := strconv.Atoi(number)
	switch {
	case isNumbered && err == nil && simpleName.MatchString(number):
		d.line("refused " + number + " # " + oneLine(strings.TrimSpace(strings.Join(r.Params, " ")), 200))
		return
	case r.Code != "SR_BACKEND_FAILURE" || len(r.Params) != 2 || !simpleName.MatchString(r.Params[0]) || isNumber(r.Params[0]):
		d.comment("refused with %s %q, which this language has no name for", r.Code, r.Params)
		return
	}
	about := r.Params[1]
	for _, kind := range []string{"sr", "key", "uri"} {
		if name, ok := d.use(kind, about); ok {
			d.line("refused " + r.Params[0] + " " + name)
			return
		}
	}
	if !isPlain(about) {
		d.line("refused " + r.Params[0])
		return
	}
	d.line("refused " + r.Params[0] + " " + word(about))
}

func isNumber(s string) bool { _, err := strconv.Atoi(s); return err == nil }

// made is how the volumes that a call makes are called.
var made = map[string]string{"Volume.create": "VOL", "Volume.snapshot": "SNAP", "Volume.clone": "CLONE", "Volume.copy": "COPY"}

// answer introduces what is new in an answer, and checks what stays the same.
func (d *draft) answer(c Call) {
	switch c.Call {
	case "SR.create":
		d.introduce("conf", canonical(c.Answer), "CONF", ".")
	case "SR.attach":
		handle, ok := text(c.Answer)
		if !ok {
			return
		}
		if name, known := d.use("sr", handle); known {
			d.line("answer . " + name)
		} else {
			d.name(d.introduce("sr", handle, "SR", "."))
		}
	case "SR.ls":
		var list []json.RawMessage
		json.Unmarshal(c.Answer, &list)
		for i, raw := range list {
			d.volume(raw, fmt.Sprintf("[%d]", i), "")
		}
	case "Volume.stat":
		d.volume(c.Answer, "", "")
		d.fields(c.Answer)
	default:
		if stem := made[c.Call]; stem != "" {
			d.volume(c.Answer, "", stem)
			d.fields(c.Answer)
		}
	}
}

// volume introduces a volume's key and URIs. The key of one that was just made, as
// its stem says, is introduced in any case.
func (d *draft) volume(raw json.RawMessage, at, stem string) {
	var v struct {
		Key string   `json:"key"`
		URI []string `json:"uri"`
	}
	json.Unmarshal(raw, &v) // as far as it is one
	if v.Key != "" && stem != "" {
		d.name(d.introduce("key", v.Key, stem, at+".key"))
	} else if v.Key != "" && d.known["key "+v.Key] == nil {
		d.introduce("key", v.Key, "VOL", at+".key")
	}
	for i, uri := range v.URI {
		if d.known["uri "+uri] == nil {
			d.introduce("uri", uri, "URI", fmt.Sprintf("%s.uri[%d]", at, i))
		}
	}
}

// fields checks what the plugin has no choice about.
func (d *draft) fields(raw json.RawMessage) {
	list, _ := members(raw)
	for _, m := range list {
		value := string(m.value)
		if s, ok := text(m.value); ok && m.name == "name" && isPlain(s) {
			d.line("answer .name " + word(s))
		}
		switch isScalar := len(value) < 32 && !strings.ContainsAny(value[:1], `"[{n`); {
		case !isScalar:
		case m.name == "read_write", m.name == "sharable", m.name == "virtual_size":
			d.line("answer ." + m.name + " " + word(value))
		}
	}
}

// canonical is the same text for the same value.
func canonical(raw json.RawMessage) string {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return ""
	}
	data, _ := json.Marshal(v)
	return string(data)
}

// compact is a value on one line, in which nothing is a variable.
func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return "null"
	}
	data := b.Bytes()
	var out strings.Builder
	for i := 0; i < len(data); i++ {
		if data[i] != '"' {
			out.WriteByte(data[i])
			continue
		}
		end := i + 1
		for data[end] != '"' {
			if data[end] == '\\' {
				end++
			}
			end++
		}
		var s string
		json.Unmarshal(data[i:end+1], &s)
		out.WriteString(literal(s))
		i = end
	}
	return out.String()
}

// literal is a string in JSON. A dollar would begin a variable.
func literal(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.Encode(s)
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "$", `\u0024`)
}

// quote is one argument in the language.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

var bare = regexp.MustCompile(`^[A-Za-z0-9_.:/@%+,=-]+$`)

// word is one argument, in quotes where they are needed.
func word(s string) string {
	if bare.MatchString(s) {
		return s
	}
	return quote(s)
}

// isPlain says that a text can stand in a line.
func isPlain(s string) bool {
	return len(s) < 300 && oneLine(s, 300) == s
}

// oneLine makes any text fit for a line: no control characters, not too long.
func oneLine(s string, most int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > most {
			b.WriteRune('…')
			break
		}
		if !unicode.IsGraphic(r) || r == '\u2028' || r == '\u2029' {
			r = '\ufffd'
		}
		b.WriteRune(r)
	}
	return b.String()
}
