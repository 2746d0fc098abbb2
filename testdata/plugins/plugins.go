// Package plugins holds deliberately wrong plugins, the proof that scenarios can
// fail: each NAME.txtar says what is wrong with it, which scenarios see that, and
// has the calls that it puts in front of those of the right plugin, simple.
package plugins

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/tools/txtar"
)

//go:embed *.txtar
var files embed.FS

// Wrong is a wrong plugin.
type Wrong struct {
	Name  string
	About string       // one sentence
	Red   []string     // the portable scenarios that fail, in order
	Maybe []string     // those that fail by chance: they look at a race
	Calls []string     // the calls that are wrong: "CALL", or "CALL refused" or "CALL answered" if only such
	Front []txtar.File // their scripts, see Install
}

// Of a wrong call, a file in a txtar holds what comes after this. The name of the file
// is that of the call, and "refused" or "answered" if it is wrong only when the right
// plugin refuses or answers: then that is in $answer. One that is "absent" is not offered.
const beginning = `#!/bin/sh
request=$(cat)
call=${0##*/}
ask() { printf '%s' "$request" | "${0%/*}/.right/$call" --json; }
edit() { answer=$(ask); status=$?; printf '%s\n' "$answer" | sed "$1"; exit $status; }
refuse() { printf '%s\n' "$answer"; exit 1; }
field() { printf '%s' "$request" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
said() { printf '%s' "$answer" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
location() { cat "/run/simple-sr/$(field sr | sed 's/simple://').attached"; }
`

var only = map[string]string{
	"":         "",
	"refused":  "answer=$(ask) && { printf '%s\\n' \"$answer\"; exit; }\n",
	"answered": "answer=$(ask) || refuse\n",
}

const byChance = "\nby chance:"

// Names lists the wrong plugins.
func Names() (names []string) {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(err) // it is embedded
	}
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".txtar"))
	}
	return names
}

// Read reads a wrong plugin.
func Read(name string) (Wrong, error) {
	w := Wrong{Name: name}
	data, err := files.ReadFile(name + ".txtar")
	if err != nil {
		return w, fmt.Errorf("there is no wrong plugin %q", name)
	}
	archive := txtar.Parse(data)
	about, red, ok := strings.Cut(string(archive.Comment), "\nred:")
	if !ok {
		return w, fmt.Errorf("%s.txtar does not say which scenarios turn red", name)
	}
	red, maybe, _ := strings.Cut(red, byChance)
	w.About, w.Red, w.Maybe = strings.TrimSpace(about), strings.Fields(red), strings.Fields(maybe)
	for _, f := range archive.Files {
		call, when, _ := strings.Cut(f.Name, " ")
		if when == "absent" {
			w.Front = append(w.Front, txtar.File{Name: call})
			continue
		}
		first, ok := only[when]
		if !ok {
			return w, fmt.Errorf("%s.txtar: a call is refused, answered or absent, not %s", name, when)
		}
		w.Calls = append(w.Calls, f.Name)
		w.Front = append(w.Front, txtar.File{Name: call, Data: []byte(beginning + first + string(f.Data))})
	}
	return w, nil
}

// Expect writes into a wrong plugin's file, in dir, which scenarios turn red for certain.
func Expect(dir, name string, red []string) error {
	path := filepath.Join(dir, name+".txtar")
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	archive := txtar.Parse(data)
	about, before, _ := strings.Cut(string(archive.Comment), "\nred:")
	_, maybe, hasMaybe := strings.Cut(before, byChance)
	text := strings.TrimSpace(about) + "\nred:"
	for _, scenario := range red {
		text += "\n  " + scenario
	}
	if hasMaybe {
		text += byChance + strings.TrimRight(maybe, "\n")
	}
	archive.Comment = []byte(text + "\n")
	return os.WriteFile(path, txtar.Format(archive), 0o644)
}

// Build builds the right plugin into dir and returns its path.
func Build(dir string) (string, error) {
	path := filepath.Join(dir, "simple")
	c := exec.Command("go", "build", "-o", path, "reflinksr/testdata/plugins/simple")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
}

// Install installs the plugin simple below dir, with the scripts of front in the place
// of those of its calls that they are named after: they find the right calls in the
// directory .right beside them. A call whose script is empty is not offered. It returns the volume plugin's directory, and that of
// datapath plugins.
func Install(simple, dir string, front []txtar.File) (volume, datapath string, err error) {
	volume, datapath = filepath.Join(dir, "volume", "org.example.simple"), filepath.Join(dir, "datapath")
	for _, at := range []string{dir, filepath.Join(dir, ".right")} {
		if out, err := exec.Command(simple, "install", at).CombinedOutput(); err != nil {
			return "", "", fmt.Errorf("%w: %s", err, out)
		}
	}
	for _, sub := range []string{"volume/org.example.simple", "datapath/loop+simple"} {
		if err := os.Symlink(filepath.Join("..", "..", ".right", sub), filepath.Join(dir, sub, ".right")); err != nil {
			return "", "", err
		}
	}
	for _, f := range front {
		at := filepath.Join(volume, f.Name)
		if strings.HasPrefix(f.Name, "Datapath.") {
			at = filepath.Join(datapath, "loop+simple", f.Name)
		}
		if err := os.Remove(at); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", "", err
		}
		if len(f.Data) == 0 {
			continue
		}
		if err := os.WriteFile(at, f.Data, 0o755); err != nil {
			return "", "", err
		}
	}
	return volume, datapath, nil
}
