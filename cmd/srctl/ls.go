package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
	"reflinksr/internal/units"
)

func (s *session) ls() *cobra.Command {
	return s.answersJSON(command("ls [SR]", "list the attached SRs, or the volumes of one",
		`ls lists the SRs that are attached on this host with their health and their free
space, or the volumes of an SR: rw can be written to, ro is a snapshot, and cbt
one whose data was destroyed.`,
		`  srctl ls
  srctl ls /srv/tank
  srctl ls --json /srv/tank | jq '.[].key'`, 0, 1, s.list))
}

func (s *session) list(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return s.listSRs(ctx)
	}
	out := s.out
	sr, err := s.at(ctx, args[0])
	if err != nil {
		return err
	}
	volumes, err := sr.List(ctx)
	if err != nil {
		return err
	}
	if s.json {
		return printJSON(out, volumes)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tMODE\tSIZE\tALLOCATED\tNAME")
	for _, v := range volumes {
		name := oneLine(v.Name)
		if v.VolumeType == repository.CBTMetadata {
			name += " (data destroyed)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", v.Key, modeOf(v.ReadWrite, v.VolumeType), units.Bytes(v.VirtualSize), units.Bytes(v.PhysicalUtilisation), name)
	}
	return w.Flush()
}

// modeOf is what can be done with a volume's data: "cbt" is a snapshot that has none any
// more, and only tells of changed blocks.
func modeOf(readWrite bool, kind string) string {
	switch {
	case kind == repository.CBTMetadata:
		return "cbt"
	case readWrite:
		return "rw"
	}
	return "ro"
}

func (s *session) listSRs(ctx context.Context) error {
	out := s.out
	srs, err := repository.Attached(ctx)
	if err != nil {
		return err
	}
	stats, failed := []repository.SRStat{}, error(nil)
	for _, sr := range srs {
		st, err := sr.Stat(ctx)
		if errors.Is(err, fault.ErrNotAttached) {
			continue // it was detached while this host's SRs were listed
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		stats = append(stats, st)
	}
	if s.json {
		return errors.Join(failed, printJSON(out, stats))
	}
	if len(stats) == 0 && failed == nil {
		fmt.Fprintln(out, "no SR is attached on this host")
	}
	if len(stats) == 0 {
		return failed
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PATH\tHEALTH\tFREE\tTOTAL\tNAME")
	for _, st := range stats {
		path, err := repository.SR(st.SR).Path()
		if err != nil {
			return err
		}
		health := st.Health[0]
		if st.Health[1] != "" {
			health += ", but see below"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", oneLine(path), health, units.Bytes(st.FreeSpace), units.Bytes(st.TotalSpace), oneLine(st.Name))
		if st.Health[1] != "" {
			fmt.Fprintf(w, "\t%s\n", printable(st.Health[1]))
		}
	}
	return errors.Join(failed, w.Flush())
}
