package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"reflinksr/cmd/internal/version"
	"reflinksr/internal/openmetrics"
	"reflinksr/internal/repository"
)

func (s *session) metrics() *cobra.Command {
	var path string
	var within time.Duration
	c := s.takes(command("metrics [SR]", "tell figures of SRs and volumes to a monitoring system",
		`metrics tells figures of the attached SRs, or of one, and of their volumes, as
OpenMetrics. Into a file for node_exporter they are written as a whole, or not. One
that does not answer is counted as failed, the others are told, and it fails.`,
		`  srctl metrics
  srctl metrics --textfile /var/lib/node_exporter/reflinksr.prom`, 0, 1,
		func(ctx context.Context, args []string) error {
			if within < 0 {
				return misused("--within %v: a time from nothing on", within)
			}
			return s.tellMetrics(ctx, args, path, within)
		}), anSR)
	c.Flags().StringVar(&path, "textfile", "", "into this file")
	c.Flags().DurationVar(&within, "within", 10*time.Second, "how long it may take to look at extents of volumes (0s: they are not looked at); an SR may take 10s to answer at all")
	return c
}

func (s *session) tellMetrics(ctx context.Context, args []string, path string, within time.Duration) error {
	srs, err := s.someOrAll(ctx, args)
	if err != nil {
		return err
	}
	var file *textfile
	if path != "" {
		if file, err = openTextfile(path); err != nil { // nobody else measures for it meanwhile
			return err
		}
	}
	ask := askHost[repository.Metrics]
	if len(args) > 0 {
		ask = askAll[repository.Metrics]
	}
	begun := time.Now()
	text, failed := measured(ask(srs, "metrics", partOf(within), patienceOf(within)), begun)
	if file != nil {
		return errors.Join(failed, file.publish(text))
	}
	_, err = text.WriteTo(s.out)
	return errors.Join(failed, err)
}

// measured makes a text of what SRs answered, which were asked some time ago.
func measured(answers []answerOf[repository.Metrics], begun time.Time) (*openmetrics.Text, error) {
	var failed error
	failures := 0
	f := newFamilies()
	for _, answer := range answers {
		if answer.err != nil {
			failed = errors.Join(failed, answer.err)
			failures++
			continue
		}
		f.add(answer.value)
	}
	f.build.Add(1, "version", version.String())
	f.srs.Add(float64(len(answers)))
	f.failed.Add(float64(failures))
	f.took.Add(time.Since(begun).Seconds())
	return f.text, failed
}

// families are all that is told.
type families struct {
	text                                                          *openmetrics.Text
	build, srs, failed, took                                      *openmetrics.Family
	info, healthy, warning, size, free, allocated, promised       *openmetrics.Family
	volumes, held, counted, extents, stall                        *openmetrics.Family
	volume, volumeSize, volumeAllocated, exclusive, volumeExtents *openmetrics.Family
}

func newFamilies() families {
	t := new(openmetrics.Text)
	return families{
		text:      t,
		build:     t.Gauge("reflinksr_build_info", "", "which build of srctl measured"),
		srs:       t.Gauge("reflinksr_srs", "", "SRs that are attached on this host, or the one that was asked for"),
		failed:    t.Gauge("reflinksr_srs_failed", "", "SRs of those that could not be measured: nothing else is told of them"),
		took:      t.Gauge("reflinksr_metrics_duration_seconds", "seconds", "how long measuring took"),
		info:      t.Gauge("reflinksr_sr_info", "", "an SR: its UUID, name, directory and filesystem"),
		healthy:   t.Gauge("reflinksr_sr_healthy", "", "1 if the SR can be used, 0 if it is not where it was attached"),
		warning:   t.Gauge("reflinksr_sr_warning", "", "1 if srctl ls has a warning of the SR"),
		size:      t.Gauge("reflinksr_sr_size_bytes", "bytes", "size of the filesystem"),
		free:      t.Gauge("reflinksr_sr_free_bytes", "bytes", "what is free on the filesystem, or of a quota"),
		allocated: t.Gauge("reflinksr_sr_allocated_bytes", "bytes", "what volumes have allocated; what several share counts for each"),
		promised:  t.Gauge("reflinksr_sr_promised_bytes", "bytes", "what is promised to guests: the sizes of all disks that can be written to"),
		volumes:   t.Gauge("reflinksr_sr_volumes", "", "volumes: disks, snapshots, snapshots without data, and damaged ones"),
		held:      t.Gauge("reflinksr_sr_destroyed_bytes", "bytes", "what snapshots whose data was destroyed still hold"),
		counted:   t.Gauge("reflinksr_sr_measured_volumes", "", "volumes whose extents were looked at this time"),
		extents:   t.Gauge("reflinksr_sr_extents_max", "", "extents of the disk that has most, of those"),
		stall:     t.Gauge("reflinksr_sr_stall_seconds", "seconds", "for how long a guest's write to that waits when a snapshot is taken, about"),

		volume:          t.Gauge("reflinksr_volume_info", "", "a volume: its SR, key, name and kind"),
		volumeSize:      t.Gauge("reflinksr_volume_size_bytes", "bytes", "virtual size"),
		volumeAllocated: t.Gauge("reflinksr_volume_allocated_bytes", "bytes", "what is allocated, shared or not"),
		exclusive:       t.Gauge("reflinksr_volume_exclusive_bytes", "bytes", "what no other volume shares, if it was looked at this time"),
		volumeExtents:   t.Gauge("reflinksr_volume_extents", "", "extents, if they were looked at this time"),
	}
}

func (f *families) add(m repository.Metrics) {
	sr := []string{"sr", m.UUID}
	add := func(to *openmetrics.Family, value float64, more ...string) {
		to.Add(value, append(sr[:2:2], more...)...)
	}
	reachable := m.Filesystem != ""
	add(f.info, 1, "name", m.Stat.Name, "path", m.Path, "filesystem", m.Filesystem)
	add(f.healthy, flagged(reachable))
	add(f.warning, flagged(m.Stat.Health[1] != ""))
	if !reachable {
		return
	}
	add(f.size, float64(m.Stat.TotalSpace))
	add(f.free, float64(m.Stat.FreeSpace))
	add(f.allocated, float64(m.Allocated))
	add(f.promised, float64(m.Promised))
	for _, kind := range []struct {
		name string
		n    int
	}{{"disk", m.Disks}, {"snapshot", m.Snapshots}, {"destroyed", m.Destroyed}, {"damaged", m.Damaged}} {
		add(f.volumes, float64(kind.n), "kind", kind.name)
	}
	add(f.held, float64(m.DestroyedHeld))
	add(f.counted, float64(m.Measured))
	if m.Measured > 0 {
		add(f.extents, float64(m.MostExtents))
		add(f.stall, m.Stall.Seconds())
	}
	for _, v := range m.Volumes {
		f.addVolume(v, append(sr[:2:2], "volume", string(v.Key)))
	}
}

func (f *families) addVolume(v repository.VolumeMetrics, labels []string) {
	kind := "snapshot"
	switch {
	case v.Damaged:
		kind = "damaged"
	case v.VolumeType == repository.CBTMetadata:
		kind = "destroyed"
	case v.ReadWrite:
		kind = "disk"
	}
	f.volume.Add(1, append(labels[:4:4], "name", v.Name, "kind", kind)...)
	if v.Damaged {
		return
	}
	f.volumeSize.Add(float64(v.VirtualSize), labels...)
	f.volumeAllocated.Add(float64(v.PhysicalUtilisation), labels...)
	if v.Measured {
		f.exclusive.Add(float64(v.Exclusive), labels...)
		f.volumeExtents.Add(float64(v.Extents), labels...)
	}
}

func flagged(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// textfile is a file that is replaced as a whole: who reads it, and may read it, finds the former one or the new one. That is written
// beside it, by a name that node_exporter does not read.
type textfile struct {
	path         string
	dir, partial *os.File
}

// openTextfile refuses what cannot be written, and what another process is writing.
func openTextfile(path string) (*textfile, error) {
	if !strings.HasSuffix(path, ".prom") {
		return nil, fmt.Errorf("%s: node_exporter reads files whose names end in .prom, and no others: give such a name", path)
	}
	if st, err := os.Lstat(path); err == nil && !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: give another name", path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	partial, err := openPartial(path)
	if err != nil {
		dir.Close()
		return nil, err
	}
	return &textfile{path, dir, partial}, nil
}

// publish replaces the file.
func (t *textfile) publish(text io.WriterTo) (err error) {
	defer func() {
		if err != nil {
			os.Remove(t.partial.Name())
		}
		t.partial.Close()
		t.dir.Close()
	}()
	if err := t.partial.Truncate(0); err != nil { // whatever an interrupted one left
		return err
	}
	if _, err := text.WriteTo(t.partial); err != nil {
		return err
	}
	if err := errors.Join(t.partial.Chmod(0o644), t.partial.Sync()); err != nil {
		return err
	}
	if err := os.Rename(t.partial.Name(), t.path); err != nil {
		return err
	}
	return t.dir.Sync()
}
