package main

import (
	"cmp"
	"context"
	"slices"
	"time"

	"reflinksr/internal/diskstat"
	"reflinksr/internal/repository"
)

// remembered is for how many looks what has gone is shown.
const remembered = 10

// look looks again. Who is told to end does not wait for an SR that does not answer.
func (w *watching) look(ctx context.Context) error {
	srs := w.named
	if len(srs) == 0 {
		var err error
		if srs, err = repository.Attached(ctx); err != nil {
			return err
		}
	}
	sights, err := endable(ctx, func() ([]repository.Sight, error) { return repository.Look(ctx, srs) })
	if err != nil {
		return err
	}
	now := time.Now()
	w.passed = 0
	if !w.at.IsZero() {
		w.passed = now.Sub(w.at)
	}
	w.at = now
	active := w.meter.Read(now, countersOf(sights))
	former := w.former
	w.former, w.watched = map[repository.SR]watchedSR{}, nil
	var count []repository.Volume
	for i, sight := range sights {
		one := w.watch(srs[i], sight, former[srs[i]], active)
		if one.Gone {
			continue
		}
		for _, d := range one.Disks {
			if !d.Gone {
				count = append(count, repository.Volume{SR: srs[i], Key: d.Key})
			}
		}
		w.former[srs[i]] = one
		w.watched = append(w.watched, one)
		delete(former, srs[i])
	}
	for handle, sr := range former {
		if sr.Gone, sr.looks = true, sr.looks+1; sr.looks <= remembered || len(w.named) > 0 {
			for i := range sr.Disks {
				sr.Disks[i] = gone(sr.Disks[i])
			}
			w.former[handle] = sr
			w.watched = append(w.watched, sr)
		}
	}
	rank := map[string]int{repository.Full: 1, "": 3}
	slices.SortFunc(w.watched, func(a, b watchedSR) int {
		return cmp.Or(cmp.Compare(cmp.Or(rank[a.Shortage], 2), cmp.Or(rank[b.Shortage], 2)), cmp.Compare(a.Path, b.Path))
	})
	w.counter.count(count)
	return nil
}

// countersOf reads what the kernel counted of the disks' devices. A device that has just gone has none.
func countersOf(sights []repository.Sight) map[repository.Disk]diskstat.Counters {
	counted := map[repository.Disk]diskstat.Counters{}
	for _, sight := range sights {
		for _, d := range sight.Disks {
			if d.Device == nil {
				continue
			}
			if c, err := diskstat.Of(d.Device.Device); err == nil {
				counted[*d.Device] = c
			}
		}
	}
	return counted
}

// watch puts together what is known of an SR.
func (w *watching) watch(handle repository.SR, sight repository.Sight, former watchedSR, active map[repository.Disk]diskstat.Activity) watchedSR {
	one := watchedSR{
		Path: sight.Path, UUID: sight.UUID, Name: sight.Name, Health: sight.Health[0], Warning: sight.Health[1], Shortage: repository.Shortage(sight.SRStat),
		Free: sight.FreeSpace, Total: sight.TotalSpace, Gone: sight.Gone, Disks: []watchedDisk{}, handle: handle,
	}
	before := map[repository.Key]watchedDisk{}
	for _, d := range former.Disks {
		before[d.Key] = d
	}
	if one.Health != repository.Healthy {
		one.Disks = former.Disks // nobody knows; they are not gone
		return one
	}
	for _, d := range sight.Disks {
		was, known := before[d.Key]
		one.Disks = append(one.Disks, w.disk(repository.Volume{SR: handle, Key: d.Key}, d, was, known && !was.Gone, active))
		delete(before, d.Key)
	}
	for _, d := range former.Disks {
		if d, was := before[d.Key]; was && d.looks < remembered {
			one.Disks = append(one.Disks, gone(d))
		}
	}
	return one
}

// gone is a disk that is there no more: what it did is not what it does.
func gone(d watchedDisk) watchedDisk {
	return watchedDisk{Key: d.Key, Name: d.Name, Path: d.Path, Gone: true, Domains: []string{}, Size: d.Size, Allocated: d.Allocated, looks: d.looks + 1}
}

func (w *watching) disk(v repository.Volume, d repository.Seen, was watchedDisk, known bool, active map[repository.Disk]diskstat.Activity) watchedDisk {
	path, _ := v.SR.Path()
	one := watchedDisk{Key: d.Key, Name: d.Name, Path: path + "/" + string(d.Key), Domains: d.Domains, Size: d.VirtualSize, Allocated: d.PhysicalUtilisation}
	perSecond := func(n float64) *float64 {
		rate := n / w.passed.Seconds()
		return &rate
	}
	if known && w.passed > 0 {
		one.Growth = perSecond(float64(d.PhysicalUtilisation - was.Allocated))
	}
	if d.Device != nil {
		one.Device = new(string)
		*one.Device = "/dev/" + d.Device.Device
		if a, ok := active[*d.Device]; ok && w.passed > 0 {
			l := a.Lately
			one.ReadBytes, one.WriteBytes = perSecond(float64(l.ReadBytes)), perSecond(float64(l.WriteBytes))
			one.Reads, one.Writes = perSecond(float64(l.Reads)), perSecond(float64(l.Writes))
			one.ReadTime, one.WriteTime = milliseconds64(l.ReadLatency(), l.Reads), milliseconds64(l.WriteLatency(), l.Writes)
			one.InFlight, one.latency = &l.InFlight, a.Latency
		}
	}
	if c, ok := w.counter.of(v); ok {
		age := w.at.Sub(c.at).Seconds()
		age = max(0, age)
		one.Extents, one.ExtentsAge, one.Stall, one.StallBefore = &c.extents, &age, c.next.Stall, c.next.AtOnce
	}
	return one
}

// milliseconds64 is how long requests took, if there were any.
func milliseconds64(d time.Duration, requests uint64) *float64 {
	if requests == 0 {
		return nil
	}
	ms := float64(d) / float64(time.Millisecond)
	return &ms
}
