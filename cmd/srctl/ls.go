package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"reflinksr/internal/repository"
)

var (
	srColumns     = []column{{title: "PATH", cut: textsEnd}, {title: "HEALTH"}, {title: "FREE", numbers: true}, {title: "TOTAL", numbers: true}, {title: "NAME", cut: textsEnd}}
	volumeColumns = []column{{title: "KEY", cut: keysEnd}, {title: "MODE"}, {title: "SIZE", numbers: true}, {title: "ALLOCATED", numbers: true}, {title: "NAME", cut: textsEnd}}
)

func (s *session) ls() *cobra.Command {
	return s.takes(s.narrowed(s.answersJSON(command("ls [SR]", "list the attached SRs, or the volumes of one",
		`ls lists the SRs that are attached on this host with their health and their free
space, those that are FULL or LOW on space first (it fails if one does not answer within 10 seconds, and lists the others),
or the volumes of an SR: rw can be written to, ro is a snapshot, and cbt
one whose data was destroyed.

On a terminal keys and names are cut so that a line fits; in a pipe they are whole.`,
		`  srctl ls
  srctl ls tank --sort -size
  srctl ls tank --filter mode=ro --filter 'name=web*'
  srctl ls --json tank | jq '.[].path'`, 0, 1, s.list)), volumeColumns), anSR)
}

// attachedSR is an SR for programs.
type attachedSR struct {
	repository.SRStat
	Path string `json:"path"`
}

// aDisk is a volume for programs.
type aDisk struct {
	repository.VolumeStat
	Path string `json:"path"` // of the file with its data
}

// disk tells also where a volume's data is.
func (s *session) disk(v repository.VolumeStat) aDisk {
	return aDisk{v, filepath.Join(s.path, string(v.Key))}
}

// pathOf is where a volume's data is.
func (s *session) pathOf(v repository.Volume) string { return filepath.Join(s.path, string(v.Key)) }

func (s *session) list(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return s.listSRs(ctx)
	}
	sr, err := s.at(ctx, args[0])
	if err != nil {
		return err
	}
	if err := s.warnOfShortage(ctx, sr); err != nil {
		return err
	}
	volumes, err := sr.List(ctx)
	if err != nil {
		return err
	}
	t := &table{columns: volumeColumns}
	for _, v := range volumes {
		name := text(v.Name)
		if v.VolumeType == repository.CBTMetadata {
			name.shown += " (data destroyed)"
		}
		t.rows = append(t.rows, row{value: s.disk(v), cells: []cell{text(string(v.Key)), text(modeOf(v.ReadWrite, v.VolumeType)), s.size(v.VirtualSize), s.size(v.PhysicalUtilisation), name}})
	}
	return answer[aDisk](s, t)
}

// answer prints the rows of a table that were asked for.
func answer[T any](s *session, t *table) error {
	err := t.choose(s.sort, s.filters)
	switch {
	case err != nil:
		return err
	case s.json:
		return printJSON(s.out, values[T](t))
	}
	return t.print(s.out, terminalWidth(s.out))
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

// pressing is where an SR's row comes: without room before all others.
func pressing(r row) int {
	switch repository.Shortage(r.value.(attachedSR).SRStat) {
	case "":
		return 2
	case repository.Full:
		return 0
	}
	return 1
}

// warnOfShortage says, before anything else, that an SR has hardly any room left.
func (s *session) warnOfShortage(ctx context.Context, sr repository.SR) error {
	st, err := sr.Stat(ctx)
	if err != nil {
		return err
	}
	if short := repository.Shortage(st); short != "" {
		return indented(messages, short+": "+printable(st.Health[1]), 0, terminalWidth(os.Stderr))
	}
	return nil
}

func (s *session) listSRs(ctx context.Context) error {
	srs, err := repository.Attached(ctx)
	if err != nil {
		return err
	}
	t, failed := &table{columns: srColumns}, error(nil)
	for _, answer := range askHost[repository.SRStat](srs, "stat", 0, patience) {
		if answer.err != nil {
			failed = errors.Join(failed, answer.err)
			continue
		}
		st := answer.value
		path, err := answer.sr.Path()
		if err != nil {
			return err
		}
		health, below := st.Health[0], ""
		if st.Health[1] != "" {
			health, below = health+", but see below", printable(st.Health[1])
		}
		if short := repository.Shortage(st); short != "" {
			health = short + ", see below"
		}
		t.rows = append(t.rows, row{value: attachedSR{st, path}, below: below, cells: []cell{text(path), {raw: st.Health[0], shown: health}, s.size(st.FreeSpace), s.size(st.TotalSpace), text(st.Name)}})
	}
	slices.SortStableFunc(t.rows, func(a, b row) int { return cmp.Compare(pressing(a), pressing(b)) })
	if len(t.rows) == 0 && !s.json {
		if failed == nil {
			fmt.Fprintln(messages, "no SR is attached on this host")
		}
		return failed
	}
	return errors.Join(failed, answer[attachedSR](s, t))
}
