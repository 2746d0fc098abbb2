package scripts

import (
	"embed"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// Files are all scenarios, as FOLDER/NAME.txtar. A name is there once, whatever the folder:
// it alone says which scenario is meant.
//
//go:embed wire/*.txtar sr/*.txtar volume/*.txtar snapshot/*.txtar cbt/*.txtar datapath/*.txtar faults/*.txtar opennebula/*.txtar smapiv1/*.txtar
var Files embed.FS

// folders are where scenarios are, with what they are about.
var folders = []struct{ name, about string }{
	{"wire", "what every call is alike in: requests, arguments, answers, hostile ones too; and the plugin itself, installed and asked about"},
	{"sr", "an SR: made in a directory or on a disk, found, adopted, attached, listed, detached, destroyed; its options and its space"},
	{"volume", "a disk and its record: created, described, listed, resized, locked, destroyed. `main_job` is the shortest whole life"},
	{"snapshot", "disks that come from disks: snapshot, clone, copy, revert, compose, and who is related to whom"},
	{"cbt", "what has changed between two disks, and snapshots that keep only the knowledge of it"},
	{"datapath", "a guest gets a disk and gives it back: devices, leases, disks that forget, several guests at once"},
	{"faults", "what goes wrong around a call: full, read-only, failing and vanished filesystems, damaged and planted files, calls that are killed"},
	{openNebula, "the drivers of datastores and transfers of OpenNebula, called as its executives call them. They run with `-opennebula DIR` alone, DIR being a directory with `datastore/NAME` and `tm/NAME`; those named `hosts_…` with `-hosts A,B` as well"},
	{smapiv1, "drivers of the toolstack's older interface for storage, in the form in which xapi calls them today and in their first one. They run with `-smapiv1 DIR` alone, DIR being a directory with `ReflinkSR`, `FileSR` …"},
}

// openNebula and smapiv1 are the folders of scenarios that call no plugin of the toolstack.
const openNebula, smapiv1 = "opennebula", "smapiv1"

// Matches says whether an expression means the scenario in a file: one with a slash is
// held against FOLDER/NAME, any other against NAME.
func Matches(pattern *regexp.Regexp, file string) bool {
	name := strings.TrimSuffix(filepath.Base(file), ".txtar")
	if strings.Contains(pattern.String(), "/") {
		name = filepath.Base(filepath.Dir(file)) + "/" + name
	}
	return pattern.MatchString(name)
}

// Select writes the scenarios that an expression means to dir, each in its folder, and
// returns their paths. What it gives are errors of reading and writing files.
func (c Config) Select(dir string, match *regexp.Regexp) ([]string, error) {
	var paths []string
	for _, folder := range folders {
		if (folder.name == openNebula) != (c.OpenNebula != "") || (folder.name == smapiv1) != (c.SMAPIv1 != "") {
			continue
		}
		entries, err := Files.ReadDir(folder.name)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			file := path.Join(folder.name, e.Name())
			if !Matches(match, file) || strings.HasPrefix(e.Name(), "own_") && !c.Own || strings.HasPrefix(e.Name(), "hosts_") && c.Hosts == nil {
				continue
			}
			data, err := Files.ReadFile(file)
			if err != nil {
				return nil, err
			}
			if err := os.MkdirAll(filepath.Join(dir, folder.name), 0o700); err != nil {
				return nil, err
			}
			written := filepath.Join(dir, file)
			if err := os.WriteFile(written, data, 0o600); err != nil {
				return nil, err
			}
			paths = append(paths, written)
		}
	}
	return paths, nil
}
