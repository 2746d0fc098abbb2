// Package scripts is the scenarios: txtar scripts that read like the minutes of a
// session with a SMAPIv3 plugin, and the verbs that they are written in.
//
// A scenario runs against any plugin directory. Those named own_… look inside an
// SR of this project and are only for its own plugin. README.md lists the verbs;
// it is generated from their table.
package scripts

import (
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"reflinksr/scripts/scratch"
)

// Files are all scenarios.
//
//go:embed *.txtar
var Files embed.FS

// Config says what scenarios run against.
type Config struct {
	Volume   string // the volume plugin's directory
	Datapath string // the directory that holds the datapath plugins' directories
	FS       string // the kind of filesystem that the fs verb makes by default
	Own      bool   // the plugin is this project's
	Race     bool   // the plugin is built with the race detector, which takes memory and time
}

// Params are testscript's, for the scenarios in files.
func (c Config) Params(files []string) testscript.Params {
	verbs := map[string]func(*testscript.TestScript, bool, []string){}
	for _, v := range table {
		verbs[v.name] = v.command()
	}
	return testscript.Params{
		Files:               files,
		Setup:               c.setup,
		Cmds:                verbs,
		Condition:           c.condition,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	}
}

func (c Config) setup(env *testscript.Env) error {
	env.Setenv("VOLUME", c.Volume)
	env.Setenv("DATAPATH", c.Datapath)
	env.Setenv("FS", c.FS)
	s := &script{config: c, work: env.WorkDir, sums: map[string]string{}, plugs: map[string][]plugged{}}
	for _, name := range []string{"UUID_A", "UUID_B", "UUID_C"} {
		id := newUUID()
		env.Setenv(name, id)
		s.uuids = append(s.uuids, id)
	}
	env.Values[stateKey{}] = s
	env.Defer(s.cleanUp)
	return nil
}

// condition answers [root], [fs:KIND] (the kind of this run), [can:KIND] (such a
// filesystem can be made here), [own], [race], [feature:NAME] (Plugin.query lists it) and
// [call:NAME] (the plugin offers it).
func (c Config) condition(word string) (bool, error) {
	kind, arg, _ := strings.Cut(word, ":")
	switch kind {
	case "root":
		return os.Getuid() == 0, nil
	case "own":
		return c.Own, nil
	case "race":
		return c.Race, nil
	case "fs":
		return c.FS == arg, nil
	case "can":
		return os.Getuid() == 0 && scratch.Available(arg) == nil, nil
	case "feature":
		features, err := c.features()
		return slices.Contains(features, arg), err
	case "call":
		_, err := os.Stat(filepath.Join(c.Volume, arg))
		return err == nil, nil
	}
	return false, fmt.Errorf("unknown condition [%s]", word)
}

// queried caches the features of plugins by their directories.
var queried sync.Map

// features asks the volume plugin for its features, once.
func (c Config) features() ([]string, error) {
	if known, ok := queried.Load(c.Volume); ok {
		return known.([]string), nil
	}
	command := exec.Command(filepath.Join(c.Volume, "Plugin.Query"), "--json")
	command.Stdin = strings.NewReader(`{"dbg":"scenario"}`)
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("Plugin.Query of %s: %w: %s", c.Volume, err, shorten(out))
	}
	var answer struct{ Features []string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return nil, fmt.Errorf("Plugin.Query of %s: %w: %s", c.Volume, err, shorten(out))
	}
	queried.Store(c.Volume, answer.Features)
	return answer.Features, nil
}

// Select writes the scenarios whose names match to dir and returns their paths.
func (c Config) Select(dir string, match *regexp.Regexp) ([]string, error) {
	entries, err := Files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".txtar")
		if !match.MatchString(name) || strings.HasPrefix(name, "own_") && !c.Own {
			continue
		}
		data, err := Files.ReadFile(e.Name())
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, e.Name())
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}
