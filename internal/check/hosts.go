package check

import (
	"reflinksr/internal/filesystem"
	"reflinksr/sr"
)

// olderHosts: whether hosts with older kernels could not mount the filesystem that the SR is on.
func olderHosts(s *sr.SR, v *survey) error {
	newer, err := filesystem.NewerFeatures(s.Root)
	if text := filesystem.OlderHosts(newer); text != "" {
		v.add(Problem{Kind: OlderHosts, Name: s.Path, Note: true, Text: text,
			Repair: nothing("where such a host is to have the SR, make a new one on a disk, which this version formats for all of them, and copy the disks to it")})
	}
	return err
}
