// Package version tells which build of the programs this is.
package version

import (
	"fmt"
	"runtime/debug"
	"strings"
)

// Version is the release that the sources are, or are on the way to. Whoever builds a
// package can set another:
//
//	go build -ldflags '-X reflinksr/cmd/internal/version.Version=0.1.0-2' ./cmd/reflinksr
var Version = "0.1.0"

// String is the version, and what the build itself knows of where it comes from: the
// commit and its time, whether the sources were changed since, and the compiler. Of
// sources without a repository only the last is known.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Version
	}
	return describe(Version, info)
}

func describe(version string, info *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	var known []string
	if revision := settings["vcs.revision"]; revision != "" {
		known = append(known, "revision "+revision)
		if settings["vcs.modified"] == "true" {
			known = append(known, "modified")
		}
	}
	if at := settings["vcs.time"]; at != "" {
		known = append(known, at)
	}
	return fmt.Sprintf("%s (%s)", version, strings.Join(append(known, info.GoVersion), ", "))
}
