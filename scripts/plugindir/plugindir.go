// Package plugindir finds a plugin's directories where somebody says that they are: each
// can be named itself, or the directory above it, as in volume/org.example or volume.
package plugindir

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"reflinksr/internal/smapi"
)

// Kind is what a directory's calls are about.
type Kind string

// The kinds of plugins.
const (
	Volume   Kind = "volume"
	Datapath Kind = "datapath"
	Any      Kind = "" // either
)

// isOf says whether a file is what a kind is known by, in any case as the toolstack does. Both
// kinds have a Plugin.query: it is the others that tell a datapath.
func (kind Kind) isOf(file string) bool {
	switch kind {
	case Volume:
		return strings.EqualFold(file, smapi.PluginQuery{}.Call())
	case Datapath:
		return smapi.PluginsOf(file) == smapi.InDatapath
	}
	return smapi.IsName(file)
}

// All lists the directories of plugins of a kind at dir: dir itself if it is one, else
// those in it that are.
func All(kind Kind, dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if holds(kind, entries) {
		return []string{dir}, nil
	}
	var found []string
	for _, e := range entries {
		inside, err := os.ReadDir(filepath.Join(dir, e.Name())) // which may be a link
		if err == nil && !strings.HasPrefix(e.Name(), ".") && holds(kind, inside) {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	return found, nil
}

func holds(kind Kind, entries []os.DirEntry) bool {
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool { return kind.isOf(e.Name()) && !e.IsDir() })
}

// One finds the directory of the one plugin of a kind at dir. name is taken of several,
// if it is one of them.
func One(kind Kind, dir, name string) (string, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return "", fmt.Errorf("no plugin there: %w", err)
	}
	if !st.IsDir() {
		return "", fmt.Errorf("no plugin there: %s is not a directory", dir)
	}
	all, err := All(kind, dir)
	if err != nil {
		return "", err
	}
	if i := slices.IndexFunc(all, func(found string) bool { return filepath.Base(found) == name }); i >= 0 {
		return all[i], nil
	}
	switch len(all) {
	case 0:
		return "", fmt.Errorf("%s is no directory of a %s, and holds none: there is no %s in it", dir, strings.TrimSpace(string(kind)+" plugin"), example[kind])
	case 1:
		return all[0], nil
	}
	names := make([]string, len(all))
	for i, found := range all {
		names[i] = filepath.Base(found)
	}
	return "", fmt.Errorf("%s holds several plugins, name one of them: %s", dir, strings.Join(names, ", "))
}

var example = map[Kind]string{Volume: "Plugin.Query", Datapath: "Datapath.attach", Any: "call, as Plugin.Query"}
