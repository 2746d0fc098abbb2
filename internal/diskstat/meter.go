package diskstat

import "time"

// Activity is what a disk does, or all disks of a group.
type Activity struct {
	Total   Counters      // all that was counted, which only grows while the disk is the same
	Lately  Counters      // of that, since the reading before
	Latency time.Duration // of a request lately; of a group, that of its slowest disk
	Queue   float64       // requests that waited or were served at a time, on average; of a group, of its busiest disk
}

// Meter compares each reading with the one before. What it had not read then has done nothing lately: what a device counted
// until somebody looked is not of the last seconds.
type Meter[Disk comparable] struct {
	at     time.Time
	before map[Disk]Counters
}

// Read tells what disks did since the last reading, which is remembered until the next.
func (m *Meter[Disk]) Read(at time.Time, now map[Disk]Counters) map[Disk]Activity {
	passed := at.Sub(m.at)
	all := make(map[Disk]Activity, len(now))
	for disk, c := range now {
		a := Activity{Total: c, Lately: Counters{InFlight: c.InFlight}}
		if before, known := m.before[disk]; known {
			a.Lately = c.since(before)
		}
		waited, requests := a.Lately.ReadTime+a.Lately.WriteTime, a.Lately.Reads+a.Lately.Writes
		a.Latency = mean(waited, requests)
		if passed > 0 {
			a.Queue = waited.Seconds() / passed.Seconds()
		}
		all[disk] = a
	}
	m.at, m.before = at, now
	return all
}

// Groups sums up disks. Its totals are its own: they go on growing when a disk has gone.
type Groups map[string]Counters

// Add takes in a reading. of says which group a disk belongs to; the answer has the groups that have a disk.
func Add[Disk comparable](totals Groups, disks map[Disk]Activity, of func(Disk) string) map[string]Activity {
	all := map[string]Activity{}
	for disk, a := range disks {
		g := all[of(disk)]
		g.Lately = g.Lately.add(a.Lately)
		g.Latency, g.Queue = max(g.Latency, a.Latency), max(g.Queue, a.Queue)
		all[of(disk)] = g
	}
	for name, g := range all {
		g.Total = totals[name].add(g.Lately)
		g.Total.InFlight = g.Lately.InFlight
		totals[name], all[name] = g.Total, g
	}
	return all
}

// ReadLatency is how long a read took, on average.
func (c Counters) ReadLatency() time.Duration { return mean(c.ReadTime, c.Reads) }

// WriteLatency is how long a write took, on average.
func (c Counters) WriteLatency() time.Duration { return mean(c.WriteTime, c.Writes) }

func mean(sum time.Duration, n uint64) time.Duration {
	if n == 0 {
		return 0
	}
	return sum / time.Duration(n) // #nosec G115 -- requests of some seconds
}
