package smapi

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/smapi.md anew")

// The page of the calls says what the table does.
func TestPage(t *testing.T) {
	const path = "../../docs/smapi.md"
	want := page()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("docs/smapi.md is not what the table says (%v): go generate ./internal/smapi", err)
	}
}

const introduction = `# What each call takes and answers

<!-- Generated from internal/smapi: go generate ./internal/smapi -->

For whoever calls a plugin by hand, writes one, or reads a log. This is SMAPIv3, version ` + APIVersion + `, as the toolstack calls it
(xapi-project/xen-api, ` + "`ocaml/xapi-storage`" + `). reflinksr has all calls but those of the classes Data and Task;
what its calls do beside the sentence here is in [format.md](format.md) and [install.md](install.md).

- A call is one process: ` + "`DIRECTORY/CALL --json`" + `, the arguments as one JSON object on standard input, the result as one JSON value on
  standard output, exit status 0. The directory is the volume plugin's, or the datapath plugin's.
- Every call has ` + "`dbg`" + `, a string that names the toolstack's task, before the arguments below.
- Without ` + "`--json`" + ` the arguments are words in the order below, an object of strings as ` + "`--NAME KEY VALUE`" + ` for each pair; ` + "`--help`" + ` tells them.
- An argument that is missing or of another type is refused; those that are unknown are ignored. A whole number has no fraction and is below 2^63.
- An optional member is left out where it is absent, never null.
`

func page() string {
	var b strings.Builder
	b.WriteString(introduction)
	var types []Type // that have a name, in the order in which they are met
	class := ""
	for _, c := range Calls {
		if of, _, _ := strings.Cut(c.Call(), "."); of != class {
			class = of
			fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| call | arguments | answers | what it does |\n|---|---|---|---|\n", class, home(c.In))
		}
		arguments := ArgumentsOf(c.Request)[1:]
		texts := make([]string, len(arguments))
		for i, a := range arguments {
			texts[i] = "`" + a.Name + "` " + phrase(a.Type)
			if a.About != "" && (a.Is == "" || a.About != usually[a.Is]) {
				texts[i] += " (" + a.About + ")"
			}
			types = collect(types, a.Type)
		}
		types = collect(types, ResultOf(c.Request))
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.Call(), strings.Join(texts, "<br>"), phrase(ResultOf(c.Request)), c.About)
	}
	fmt.Fprintf(&b, "\n`sr` is what SR.attach answered, `key` a volume's key, `uri` one of a volume's URIs, `domain` who uses a disk.\n")
	b.WriteString("\n## Types\n")
	for _, t := range types {
		describeType(&b, t)
	}
	describeErrors(&b)
	describeFeatures(&b)
	return b.String()
}

func home(in Plugins) string {
	switch in {
	case InVolume:
		return "In the volume plugin's directory."
	case InDatapath:
		return "In the datapath plugin's directory."
	}
	return "In the directories of both plugins, but for `Plugin.ls`, which only the volume plugin has."
}

// phrase is a type in a few words.
func phrase(t Type) string {
	switch {
	case t.Kind == List && t.Of[0].Name != "":
		return "a list of " + phrase(t.Of[0])
	case t.Kind == List:
		return "a list of strings"
	case t.Name != "":
		return "[" + t.Name + "](#" + t.Name + ")"
	}
	return t.String()
}

// collect appends the types with a name that are in t, each once.
func collect(types []Type, t Type) []Type {
	walk(t, func(of Type) {
		if of.Name != "" && !slices.ContainsFunc(types, func(known Type) bool { return known.Name == of.Name }) {
			types = append(types, of)
		}
	})
	return types
}

func describeType(b *strings.Builder, t Type) {
	fmt.Fprintf(b, "\n### %s\n\n", t.Name)
	switch t.Kind {
	case Enum:
		fmt.Fprintf(b, "One of the strings %s.\n", strings.Join(t.Names, ", "))
	case Pair:
		fmt.Fprintf(b, "A list of two: %s, and %s.\n", bounded(t.Of[0]), bounded(t.Of[1]))
	case Variant:
		b.WriteString("A list of two, the name and its argument:\n\n| name | argument |\n|---|---|\n")
		describeFields(b, t)
	default:
		b.WriteString("An object:\n\n| member | |\n|---|---|\n")
		describeFields(b, t)
	}
}

func describeFields(b *strings.Builder, t Type) {
	for _, f := range t.Fields {
		text := bounded(f.Type)
		if f.About != "" && (f.Is == "" || f.About != usually[f.Is]) {
			text += ": " + f.About
		}
		if f.Optional {
			text += "; optional"
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", f.Name, text)
	}
}

// bounded is phrase, and the bounds of a number.
func bounded(t Type) string {
	switch {
	case t.Exactly != nil:
		return fmt.Sprint(*t.Exactly)
	case t.Least != nil:
		return fmt.Sprintf("%s, at least %d", phrase(t), *t.Least)
	}
	return phrase(t)
}

func describeErrors(b *strings.Builder) {
	fmt.Fprintf(b, `
## Errors

The exit status is not 0, and the answer is an object with all of %s, a string; %s, a list of strings; and %s, an object of
%s, a string, %s, a list of strings, and %s, a list of whole numbers. What the interface has a name for has the code %s
and two parameters:

| name | about |
|---|---|
`, "`code`", "`params`", "`backtrace`", "`error`", "`files`", "`lines`", BackendFailure)
	for _, e := range NamedErrors {
		fmt.Fprintf(b, "| %s | %s |\n", e.Name, e.About)
	}
	fmt.Fprintf(b, `
All else has the code %s_NUMBER, and the parameters "", a short text, and what happened and what to do about it:

| number | short text |
|---|---|
`, BackendFailure)
	for _, e := range NumberedErrors {
		fmt.Fprintf(b, "| %d | %s |\n", e.Number, e.Short)
	}
}

func describeFeatures(b *strings.Builder) {
	b.WriteString(`
## Features

What Plugin.query tells of. Most follow from a call; what does not is for the plugin to claim.

| feature | needs | told by | |
|---|---|---|---|
`)
	for _, f := range Features {
		by, claim := "volume plugin", "follows"
		if f.In == InDatapath {
			by = "datapath plugin"
		}
		if f.Claim {
			claim = "claimed"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", f.Name, f.Of.Call(), by, claim)
	}
}
