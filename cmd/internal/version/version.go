// Package version tells which build of the programs this is.
package version

import (
	"fmt"
	"runtime/debug"
	"strings"
	"time"
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

// Released is the day from which Version counts: what of a build must have a date has this one where the commit's is not known.
const Released = "2026-12-01"

// Date is when the commit was made of which this was built; where that is not known, Released.
func Date() time.Time {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				if at, err := time.Parse(time.RFC3339, s.Value); err == nil {
					return at.UTC()
				}
			}
		}
	}
	day, _ := time.Parse(time.DateOnly, Released)
	return day
}
