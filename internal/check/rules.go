package check

import (
	"cmp"
	"context"
	"errors"

	"reflinksr/sr"
	"reflinksr/volume"
)

// ExamineVolumes looks over a whole SR, attached or not. It writes nothing. What calls are
// doing at the same time is told from what interrupted calls left: a problem is one
// only if it is still there while no call changes the volume. When ctx ends, it ends with the cause.
func ExamineVolumes(ctx context.Context, s *sr.SR) (Report, error) {
	survey, err := SurveyOf(s)
	if err != nil {
		return Report{}, err
	}
	var report Report
	report.add(survey.Problems)
	if survey.Destroyed {
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
	volume.Parallel(len(keys), func(i int) {
		if ctx.Err() == nil {
			all[i], errs[i] = e.confirmed(keys[i])
		}
	})
	if err := cmp.Or(context.Cause(ctx), errors.Join(errs...)); err != nil {
		return Report{}, err
	}
	report.Attached = survey.Attached
	for i, f := range all {
		report.add(f.problems)
		if f.there {
			report.Volumes++
		}
		if f.record != nil && f.record.DataDestroyed {
			report.DataDestroyed = append(report.DataDestroyed, keys[i])
		}
	}
	report.add(lineage(keys, all))
	report.add(identity(s, e.me))
	report.sort()
	return report, nil
}

// look looks at everything that has to do with one volume.
func (e *examination) look(key sr.Key) (f finding, err error) {
	if f.there, err = e.s.Root.Exists(sr.Record(key)); err != nil {
		return f, err
	}
	if f.there {
		if err := e.lookAtVolume(key, &f); err != nil {
			return f, err
		}
	}
	staged := e.survey.Staged[key]
	if len(staged) > 0 {
		unfinished, err := unfinished(e.s, key, staged)
		if err != nil {
			return f, err
		}
		f.add(unfinished...)
	}
	if !f.there && len(f.problems) == 0 {
		orphan, err := e.orphan(key)
		if err != nil {
			return f, err
		}
		f.add(orphan...)
	}
	f.add(exposedFiles(e.s, key)...)
	for _, name := range []string{sr.Data(key), sr.Record(key)} {
		f.add(Unchangeable(e.s.Root, name, name, key)...)
	}
	if err := e.lookAtUse(key, &f); err != nil {
		return f, err
	}
	return f, e.lookAtLock(key, &f)
}
