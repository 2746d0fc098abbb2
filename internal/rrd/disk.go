package rrd

import (
	"fmt"
	"time"

	"reflinksr/internal/diskstat"
)

// DiskName is the name of a graph of a VM's disk, called so in the guest.
func DiskName(device string) func(string) string {
	return func(what string) string { return "vbd_" + device + "_" + what }
}

// SRName is the name of a graph of an SR on this host: of its UUID, the first eight digits.
func SRName(uuid string) func(string) string {
	return func(what string) string { return what + "_" + uuid[:min(8, len(uuid))] }
}

// DiskSources are the graphs that rrdp-iostat has of a tapdisk, by its names, kinds and units (xapi-project/xen-api,
// ocaml/xcp-rrdd/bin/rrdp-iostat): clients of the toolstack know these.
func DiskSources(owner, subject string, name func(what string) string, a diskstat.Activity) []Source {
	c := a.Lately
	const mib = 1 << 20
	source := func(what, about, units string, kind Kind, v Value) Source {
		return Source{Name: name(what), Owner: owner, Description: fmt.Sprintf(about, subject), Units: units, Kind: kind, Value: v}
	}
	return []Source{
		source("read", "Reads from the %s, in B/s", "B/s", Derive, Int(a.Total.ReadBytes)),
		source("write", "Writes to the %s, in B/s", "B/s", Derive, Int(a.Total.WriteBytes)),
		source("read_latency", "Read latency of the %s, in microseconds", "μs", Gauge, Int(microseconds(c.ReadLatency()))),
		source("write_latency", "Write latency of the %s, in microseconds", "μs", Gauge, Int(microseconds(c.WriteLatency()))),
		source("io_throughput_read", "Data read from the %s, in MiB/s", "MiB/s", Absolute, Float(float64(c.ReadBytes)/mib)),
		source("io_throughput_write", "Data written to the %s, in MiB/s", "MiB/s", Absolute, Float(float64(c.WriteBytes)/mib)),
		source("io_throughput_total", "All I/O of the %s, in MiB/s", "MiB/s", Absolute, Float(float64(c.ReadBytes+c.WriteBytes)/mib)),
		source("iops_read", "Read requests of the %s per second", "requests/s", Absolute, Int(c.Reads)),
		source("iops_write", "Write requests of the %s per second", "requests/s", Absolute, Int(c.Writes)),
		source("iops_total", "I/O requests of the %s per second", "requests/s", Absolute, Int(c.Reads+c.Writes)),
		source("iowait", "Time that all requests of the %s waited, per second", "s/s", Absolute, Float((c.ReadTime + c.WriteTime).Seconds())),
		source("inflight", "I/O requests of the %s in flight", "requests", Gauge, Int(c.InFlight)),
		source("latency", "Average I/O latency of the %s", "μs", Gauge, Float(float64(a.Latency.Nanoseconds())/1e3)),
		source("avgqu_sz", "Average I/O queue size of the %s", "requests", Gauge, Float(a.Queue)),
	}
}

func microseconds(d time.Duration) uint64 { return uint64(max(0, d.Microseconds())) } // #nosec G115 -- not negative
