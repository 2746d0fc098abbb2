package plugin

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/version"
	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/extent"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
	"reflinksr/snapshot"
	"reflinksr/sr"
	"reflinksr/volume"
)

// diagnosticsTimeout bounds how long diagnostics counts extents.
const diagnosticsTimeout = 3 * time.Second

// diagnostics tells versions, sizes and counts. No names, paths or contents.
func diagnostics() (string, error) {
	var b strings.Builder
	var uts unix.Utsname
	unix.Uname(&uts)
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	fmt.Fprintf(&b, "reflinksr %s\nkernel %s\nloop devices in use (all of this host) %d\n", version.String(), unix.ByteSliceToString(uts.Release[:]), len(loops))
	handles, err := attached.Handles()
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "attached SRs %d\n", len(handles))
	for _, handle := range handles {
		diagnose(&b, handle)
	}
	return b.String(), nil
}

func diagnose(b *strings.Builder, handle string) {
	_, uuid, _ := layout.ParseHandle(handle)
	s, err := sr.Open(handle, dirfs.Unlocked)
	if err != nil {
		fmt.Fprintf(b, "\nSR %s\n  unreachable\n", uuid)
		return
	}
	defer s.Close()
	total, free, _ := filesystem.Space(s.Root)
	fmt.Fprintf(b, "\nSR %s\n  filesystem %s\n  total %d\n  free %d\n  sector_size %d\n  datacow %v\n",
		uuid, s.Meta.Filesystem.Type, total, free, s.Meta.Options.SectorSize, s.Meta.Options.DataCOW)
	if w := volume.Warning(s); w != "" {
		fmt.Fprintf(b, "  %s\n", w)
	}
	keys, err := volume.Keys(s)
	if err != nil {
		fmt.Fprintf(b, "  volumes cannot be listed\n")
		return
	}
	var damaged, most, counted int
	deadline := time.Now().Add(diagnosticsTimeout)
	for _, key := range keys {
		if _, err := volume.Describe(s, key); err != nil {
			damaged++
			continue
		}
		if time.Now().After(deadline) {
			continue
		}
		f, err := volume.OpenData(s, key, unix.O_RDONLY)
		if err != nil {
			continue
		}
		if n, err := extent.Count(f); err == nil {
			counted++
			most = max(most, n)
		}
		f.Close()
	}
	staged, _ := s.Staging.Names()
	leases, _ := s.Leases.Names()
	fmt.Fprintf(b, "  volumes %d\n  damaged %d\n  leases %d\n  staged files %d\n", len(keys), damaged, len(leases), len(staged))
	fmt.Fprintf(b, "  most extents in a volume %d (of %d counted); a snapshot stalls writes about %v\n", most, counted, snapshot.Stall(s.Meta.Filesystem.Type, most))
}
