package check

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"

	"reflinksr/sr"
	"reflinksr/volume"
)

// The rules, in the order in which they are asked: each stands in a file of its own. Where one finds what explains
// the rest, those after it keep silent.

// ofSR are the rules of the SR as such. marker is asked before: if it finds anything, little is sure of the rest.
var ofSR = []func(*sr.SR, *survey) error{place, olderHosts, control, strangeFiles}

// rule looks at what has the key of a volume for one thing that may be wrong, and adds what it finds.
type rule func(key sr.Key, f *finding) error

// ofVolume are the rules of a volume, or of whatever else has its key.
func (e *examination) ofVolume() []rule {
	return []rule{e.recordAndData, e.unfinished, e.orphan, e.exposedFiles, e.unchangeable, e.use, e.lockFile}
}

// ofData are those of a volume whose record and data are both there.
func (e *examination) ofData() []rule { return []rule{e.owners, e.sizes, e.attributes} }

// ofUse are those of what uses a volume: its note and its devices are known.
func (e *examination) ofUse() []rule {
	return []rule{e.forgotten, e.inPlace, e.formerIdentity, e.leakedDevices, e.nonpersistent, e.leases}
}

// ofAll are the rules of all volumes together.
var ofAll = []func(e *examination, keys []sr.Key, all []finding) []Problem{lineage, identity}

// ExamineVolumes looks over a whole SR, attached or not. It writes nothing. What calls are
// doing at the same time is told from what interrupted calls left: a problem is one
// only if it is still there while no call changes the volume. When ctx ends, it ends with the cause. moved
// is told how many volumes of how many were looked at, by several at once.
func ExamineVolumes(ctx context.Context, s *sr.SR, moved func(done, total int64)) (Report, error) {
	survey, err := surveyOf(s)
	if err != nil {
		return Report{}, err
	}
	var report Report
	report.add(survey.problems)
	if survey.destroyed {
		report.Gone = true
		return report, nil
	}
	e := &examination{s: s, survey: survey}
	if err := e.prepare(); err != nil {
		return Report{}, err
	}
	defer e.runtime.Close()
	keys := e.keys()
	all := make([]finding, len(keys))
	errs := make([]error, len(keys))
	var done atomic.Int64
	volume.Parallel(len(keys), func(i int) {
		if ctx.Err() == nil {
			all[i], errs[i] = e.confirmed(keys[i])
			moved(done.Add(1), int64(len(keys)))
		}
	})
	if err := cmp.Or(context.Cause(ctx), errors.Join(errs...)); err != nil {
		return Report{}, err
	}
	report.Attached = survey.attached
	for i, f := range all {
		report.add(f.problems)
		if f.there {
			report.Volumes++
		}
		if f.record != nil && f.record.DataDestroyed {
			report.DataDestroyed = append(report.DataDestroyed, keys[i])
		}
	}
	for _, rule := range ofAll {
		report.add(rule(e, keys, all))
	}
	report.sort()
	return report, nil
}

// look asks every rule about one volume.
func (e *examination) look(key sr.Key) (f finding, err error) {
	if f.there, err = e.s.Root.Exists(sr.Record(key)); err != nil {
		return f, err
	}
	err = ask(e.ofVolume(), key, &f)
	return f, err
}

func ask(rules []rule, key sr.Key, f *finding) error {
	for _, rule := range rules {
		if err := rule(key, f); err != nil {
			return err
		}
	}
	return nil
}
