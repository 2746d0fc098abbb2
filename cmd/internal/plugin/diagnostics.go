package plugin

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/version"
	"reflinksr/internal/repository"
)

// diagnostics tells versions, sizes and counts. No names, paths or contents.
func diagnostics(ctx context.Context) (string, error) {
	var b strings.Builder
	var uts unix.Utsname
	unix.Uname(&uts)
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	fmt.Fprintf(&b, "reflinksr %s\nkernel %s\nloop devices in use (all of this host) %d\n", version.String(), unix.ByteSliceToString(uts.Release[:]), len(loops))
	srs, err := repository.Attached(ctx)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "attached SRs %d\n", len(srs))
	for _, sr := range srs {
		printDiagnosis(&b, sr.Diagnose(ctx))
	}
	return b.String(), nil
}

func printDiagnosis(b *strings.Builder, d repository.Diagnosis) {
	if !d.Reachable {
		fmt.Fprintf(b, "\nSR %s\n  unreachable\n", d.UUID)
		return
	}
	fmt.Fprintf(b, "\nSR %s\n  filesystem %s\n  total %d\n  free %d\n  sector_size %d\n  datacow %v\n",
		d.UUID, d.Filesystem, d.Total, d.Free, d.SectorSize, d.DataCOW)
	if d.Warning != "" {
		fmt.Fprintf(b, "  %s\n", d.Warning)
	}
	if !d.Listed {
		fmt.Fprintf(b, "  volumes cannot be listed\n")
		return
	}
	fmt.Fprintf(b, "  volumes %d\n  damaged %d\n  leases %d\n  staged files %d\n  devices %d, without direct I/O %d\n",
		d.Volumes, d.Damaged, d.Leases, d.Staged, d.Devices, d.Buffered)
	if d.Counted == 0 {
		return // there is none, or the filesystem does not tell
	}
	fmt.Fprintf(b, "  most extents in a volume %d (of %d counted); a snapshot of it in use takes about %v, and a write waits for some %v\n", d.MostExtents, d.Counted, d.Snapshot.Takes, d.Snapshot.Stall)
	if d.Snapshot.Untraced != nil {
		fmt.Fprintf(b, "  it waits for so long because %v\n", d.Snapshot.Untraced)
	}
}
