package main

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"reflinksr/internal/repository"
	"reflinksr/internal/units"
)

// What an argument of a command can be, for the shell to complete it.
const (
	anSR    = "SR"
	aVolume = "VOLUME"
	aFile   = "FILE"
)

// suggestionsWithin is how long somebody waits who wants a word completed.
const suggestionsWithin = 3 * time.Second

// takes says of a command what its arguments are; the last of them may follow again.
func (s *session) takes(c *cobra.Command, kinds ...string) *cobra.Command {
	c.ValidArgsFunction = func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(kinds) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var all []string
		switch kinds[len(args)] {
		case aFile:
			return nil, cobra.ShellCompDirectiveDefault
		case anSR:
			known, _ := repository.KnownSRs(c.Context()) // what cannot be told is not suggested
			all = suggestSRs(known)
		case aVolume:
			volumes, _ := askElsewhere[[]repository.VolumeStat](inquiry{"volumes", args[0], 0, suggestionsWithin})
			all = suggestVolumes(volumes)
		}
		return slices.DeleteFunc(all, func(text string) bool { return !strings.HasPrefix(text, begun) }), cobra.ShellCompDirectiveNoFileComp
	}
	return c
}

// plain is a name that a shell takes as it is.
var plain = regexp.MustCompile(`^[\pL\pN_.][\pL\pN_.@+:-]*$`)

// suggestSRs are what SRs may be called, and what each of these is.
func suggestSRs(known []repository.Known) (all []string) {
	count := map[string]int{}
	for _, k := range known {
		count[k.Name]++
	}
	for _, k := range known {
		about := k.Name
		if about == "" {
			about = k.UUID
		}
		if !strings.ContainsAny(k.Path, "\t\n") {
			all = append(all, k.Path+"\t"+oneLine(about))
		}
		if count[k.Name] == 1 && plain.MatchString(k.Name) {
			all = append(all, k.Name+"\t"+oneLine(k.Path))
		}
	}
	return all
}

// suggestVolumes are what volumes may be called, and what each of these is.
func suggestVolumes(volumes []repository.VolumeStat) (all []string) {
	count := map[string]int{}
	for _, v := range volumes {
		count[v.Name]++
	}
	for _, v := range volumes {
		about := modeOf(v.ReadWrite, v.VolumeType) + ", " + units.Bytes(v.VirtualSize)
		all = append(all, string(v.Key)+"\t"+strings.TrimSpace(oneLine(v.Name)+" "+about))
		if count[v.Name] == 1 && plain.MatchString(v.Name) {
			all = append(all, v.Name+"\t"+about)
		}
	}
	return all
}
