package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/repository"
	"reflinksr/internal/rrd"
	"reflinksr/internal/uuids"
	"reflinksr/internal/xenstore"
	"reflinksr/scripts/rrdd"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
	"reflinksr/scripts/xenstored"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "reflinksr-metrics" {
		main()
	}
	if status, again := scratch.Isolate(); again {
		os.Exit(status)
	}
	tests.Waiting()
	os.Exit(m.Run())
}

const (
	uid        = "test"
	hang       = 60 * time.Second // what takes longer hangs
	vm7, vm8   = "0e4b1f0a-4b1c-4d8e-9a53-b0e1c9a0f007", "0e4b1f0a-4b1c-4d8e-9a53-b0e1c9a0f008"
	oneRequest = 64 << 10
)

// host is what the program finds on one.
type host struct {
	testing.TB
	dir          string
	rrdd         *rrdd.Server
	store        *xenstored.Server
	metrics, xen string // the directory of files, and xenstored's socket
	sr           repository.SR
	uuid         string

	process *exec.Cmd
	ended   chan error
	mu      sync.Mutex
	said    bytes.Buffer
}

func (h *host) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.said.Write(p)
}

func (h *host) log() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.said.String()
}

func (h *host) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatalf("%v\n%s", err, h.log())
	}
}

func (h *host) startRRDD() {
	h.Helper()
	var err error
	h.rrdd, err = rrdd.Start(filepath.Join(h.dir, "rrdd"), h.metrics, 0.6)
	h.must(err)
	h.Cleanup(h.rrdd.End)
}

func (h *host) startStore() {
	h.Helper()
	var err error
	h.store, h.xen, err = xenstored.Start(h.dir)
	h.must(err)
	h.Cleanup(h.store.End)
}

func newHost(t testing.TB) *host {
	h := &host{TB: t, dir: t.TempDir()}
	h.metrics = filepath.Join(h.dir, "metrics")
	return h
}

// start runs the program.
func (h *host) start() {
	h.Helper()
	self, err := os.Executable()
	h.must(err)
	link := filepath.Join(h.dir, "reflinksr-metrics")
	if err := os.Symlink(self, link); !errors.Is(err, os.ErrExist) {
		h.must(err)
	}
	args := []string{link, "-rrdd", filepath.Join(h.dir, "rrdd"), "-xenstore", filepath.Join(h.dir, "socket"), "-uid", uid}
	if os.Getuid() == 0 { // as its unit has it: without any capability
		args = append([]string{"setpriv", "--bounding-set=-all", "--no-new-privs"}, args...)
	}
	h.process = exec.Command(args[0], args[1:]...)
	h.process.Stdout, h.process.Stderr = h, h
	h.must(h.process.Start())
	p, ended := h.process, make(chan error, 1)
	h.ended = ended
	go func() { ended <- p.Wait() }()
	h.Cleanup(func() { p.Process.Kill() })
}

// end has it end as systemd does.
func (h *host) end() {
	h.Helper()
	h.must(h.process.Process.Signal(unix.SIGTERM))
	select {
	case err := <-h.ended:
		h.must(err)
	case <-time.After(hang):
		h.Fatal("it does not end: " + h.log())
	}
}

// makeSR makes an SR on a filesystem of its own.
func (h *host) makeSR() {
	h.Helper()
	kind := "btrfs"
	if scratch.Available(kind) != nil {
		kind = "xfs"
	}
	fs, err := scratch.Make(kind, 1<<30, filepath.Join(h.dir, "mnt"))
	h.must(err)
	h.Cleanup(func() { fs.Remove() })
	u, err := uuids.Random()
	h.must(err)
	h.uuid = u.String()
	path := filepath.Join(fs.Dir, "sr")
	h.must(os.Mkdir(path, 0o700))
	ctx := context.Background()
	conf, err := repository.Create(ctx, repository.NewSR{UUID: h.uuid, Configuration: map[string]string{"path": path}, Name: "sr"})
	h.must(err)
	h.sr, err = repository.Attach(ctx, conf)
	h.must(err)
	h.Cleanup(func() {
		if err := h.sr.Detach(ctx); err != nil {
			h.Error(err)
		}
	})
}

type disk struct {
	uri    repository.Datapath
	domain string
	device string
}

// plug makes a volume and gives it to a domain.
func (h *host) plug(domain string) disk {
	h.Helper()
	ctx := context.Background()
	v, err := h.sr.Create(ctx, repository.NewVolume{Name: "disk " + domain, Size: 64 << 20})
	h.must(err)
	d := disk{uri: repository.Datapath(v.URI[0]), domain: domain}
	paths, err := d.uri.Attach(ctx, domain)
	h.must(err)
	d.device = paths.Device
	h.Cleanup(func() { h.unplug(d) })
	h.must(d.uri.Activate(ctx, domain, false))
	return d
}

func (h *host) unplug(d disk) {
	h.Helper()
	ctx := context.Background()
	h.must(errors.Join(d.uri.Deactivate(ctx, d.domain), d.uri.Detach(ctx, d.domain)))
}

// backend is what the toolstack writes of a guest's disk.
func (h *host) backend(domain, vm, name string, d disk) {
	h.Helper()
	h.must(xenstored.Write(h.xen, h.backendOf(domain, vm, name, d)))
}

func (h *host) backendOf(domain, vm, name string, d disk) map[string]string {
	h.Helper()
	var st unix.Stat_t
	h.must(unix.Stat(d.device, &st))
	at := "/local/domain/0/backend/vbd/" + domain + "/51712/"
	return map[string]string{
		"/local/domain/" + domain + "/vm": "/vm/" + vm,
		at + "dev":                        name, at + "params": d.device, at + "physical-device": fmt.Sprintf("%x:%x", unix.Major(st.Rdev), unix.Minor(st.Rdev)),
	}
}

// io does so many requests of 64 KiB with a device, past the page cache.
func (h *host) io(d disk, write bool, requests int) {
	h.Helper()
	f, err := os.OpenFile(d.device, os.O_RDWR|unix.O_DIRECT, 0)
	h.must(err)
	defer f.Close()
	raw := make([]byte, 2*oneRequest)
	from := -int(uintptr(unsafe.Pointer(&raw[0]))) & 4095
	block := raw[from : from+oneRequest]
	for i := range requests {
		if write {
			_, err = f.WriteAt(block, int64(i*oneRequest))
		} else {
			_, err = f.ReadAt(block, int64(i*oneRequest))
		}
		h.must(err)
	}
}

// until waits for something.
func (h *host) until(what string, so func() bool) {
	h.Helper()
	for end := time.Now().Add(hang); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			h.Fatalf("not: %s\n%s", what, h.log())
		}
	}
}

// graphs are the values of one reading by owner and name.
type graphs map[string]float64

// await takes readings until one is as wanted.
func (h *host) await(what string, wanted func(graphs) bool) graphs {
	h.Helper()
	var last any
	for end := time.Now().Add(hang); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		r, err := h.rrdd.Read(uid)
		if errors.Is(err, rrdd.ErrNoUpdate) {
			continue
		}
		if last = err; err != nil {
			continue
		}
		all := graphs{}
		for _, s := range r.Sources {
			name := s.Owner + " " + s.Name
			if _, twice := all[name]; twice {
				h.Fatalf("%s is there twice", name)
			}
			all[name] = s.Value
		}
		if last = all; wanted(all) {
			return all
		}
	}
	h.Fatalf("%s: there was only %v\n%s", what, last, h.log())
	return nil
}

var names = []string{"read", "write", "read_latency", "write_latency", "io_throughput_read", "io_throughput_write", "io_throughput_total",
	"iops_read", "iops_write", "iops_total", "iowait", "inflight", "latency", "avgqu_sz"}

// has says whether these graphs, and no others, are there: of VMs with their disks, and of the SR.
func (h *host) has(vms ...string) func(graphs) bool {
	var want []string
	for _, name := range names {
		want = append(want, "host "+name+"_"+h.uuid[:8])
		for _, vm := range vms {
			want = append(want, "vm "+vm+"_"+name)
		}
	}
	slices.Sort(want)
	return func(g graphs) bool {
		var got []string
		for name := range g {
			got = append(got, name)
		}
		slices.Sort(got)
		return slices.Equal(got, want)
	}
}

// Guests' disks have graphs as those on tapdisk have, with what the guests do, as long as there is a daemon, whatever ends and begins
// meanwhile; and none afterwards.
func TestGraphs(t *testing.T) {
	tests.Root(t, "an SR with disks")
	h := newHost(t)
	h.makeSR()
	a, b := h.plug("7"), h.plug("8")
	h.startStore()
	h.backend("7", vm7, "xvda", a)
	h.must(xenstored.Write(h.xen, map[string]string{ // nothing of ours
		"/local/domain/9/vm": "/vm/" + vm8, "/local/domain/0/backend/vbd/9/51712/dev": "xvda", "/local/domain/0/backend/vbd/9/51712/physical-device": "1:3",
		"/local/domain/5/vm": "/vm/a b", "/local/domain/0/backend/vbd/5/51712/dev": "xvda", "/local/domain/0/backend/vbd/5/51712/params": a.device,
	}))
	h.startRRDD()
	h.start()

	only7, both := h.has(vm7+" vbd_xvda"), h.has(vm7+" vbd_xvda", vm8+" vbd_xvda")
	before := h.await("the first guest's disk", only7)
	h.io(a, true, 16)
	seen := graphs{}
	sr := "_" + h.uuid[:8]
	after := h.await("1 MiB written", func(g graphs) bool {
		for name, value := range g {
			seen[name] = max(seen[name], value)
		}
		return g["vm "+vm7+" vbd_xvda_write"] == before["vm "+vm7+" vbd_xvda_write"]+1<<20
	})
	if after["host write"+sr] != before["host write"+sr]+1<<20 {
		t.Errorf("of the SR: %v", after)
	}
	for name, most := range map[string]float64{"iops_write": 16, "iops_total": 16, "io_throughput_write": 1, "io_throughput_total": 1, "iops_read": 0, "io_throughput_read": 0} {
		for _, name := range []string{"vm " + vm7 + " vbd_xvda_" + name, "host " + name + sr} {
			if v := seen[name]; v > most || most > 0 && v == 0 {
				t.Errorf("%s came to %v, of at most %v", name, v, most)
			}
		}
	}

	// While a VM is migrated within the host, two domains have its disk.
	inUse := h.backendOf("7", vm7, "xvda", a)
	inUse["/local/domain/0/backend/vbd/7/51712/state"] = "4"
	h.must(xenstored.Write(h.xen, inUse))
	h.backend("10", vm7, "xvda", a)
	h.backend("11", vm7, "xvda", b)
	h.backend("8", vm8, "xvdc", b)
	before = h.await("each once", h.has(vm7+" vbd_xvda", vm8+" vbd_xvdc"))
	h.io(a, true, 1)
	h.await("64 KiB written by the one that is in use", func(g graphs) bool {
		return g["vm "+vm7+" vbd_xvda_write"] == before["vm "+vm7+" vbd_xvda_write"]+64<<10
	})
	h.backend("10", vm8, "xvdc", b)
	h.backend("11", vm8, "xvdc", b)

	h.backend("8", vm8, "xvda", b)
	h.backend("10", vm8, "xvda", b)
	h.backend("11", vm8, "xvda", b)
	before = h.await("the second guest's disk, of the same name", both)
	h.io(b, false, 8)
	h.await("512 KiB read", func(g graphs) bool {
		return both(g) && g["vm "+vm8+" vbd_xvda_read"] == before["vm "+vm8+" vbd_xvda_read"]+512<<10 && g["vm "+vm7+" vbd_xvda_read"] == before["vm "+vm7+" vbd_xvda_read"]
	})

	h.rrdd.End()
	h.until("it says that nobody is there", func() bool { return strings.Contains(h.log(), "no graphs for now") })
	h.startRRDD()
	h.until("the new daemon is told of it", func() bool { return slices.Contains(h.rrdd.Calls(), "Plugin.Local.register") })
	before = h.await("a daemon that was started anew", both)
	h.io(a, true, 1)
	h.await("64 KiB written", func(g graphs) bool { return g["host write"+sr] == before["host write"+sr]+64<<10 })

	h.store.End()
	h.await("without xenstored", h.has())
	h.startStore()
	h.backend("8", vm8, "xvdb", b)
	h.await("with it again", h.has(vm8+" vbd_xvdb"))

	h.must(os.Remove(filepath.Join(h.metrics, uid)))
	h.rrdd.Calls()
	h.until("it sees that its file is gone", func() bool { return slices.Contains(h.rrdd.Calls(), "Plugin.Local.deregister") })
	h.await("a new file", h.has(vm8+" vbd_xvdb"))

	h.unplug(b)
	h.await("a disk that has gone", h.has())
	h.unplug(a)
	h.await("no disk", func(g graphs) bool { return len(g) == 0 })

	h.end()
	left, err := os.ReadDir(h.metrics)
	if h.rrdd.Registered(uid) || err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
	if log := h.log(); strings.Count(log, "no graphs for now") != 1 || !strings.Contains(log, "graphs again") || strings.Count(log, "only SRs have graphs") != 1 || !strings.Contains(log, "tells again") {
		t.Errorf("it said:\n%s", log)
	}
}

// Of disks of one name that a VM has by several domains, one counts: that which is in use, else that of the later domain.
func TestOneOfEach(t *testing.T) {
	used := func(d xenstore.Disk) xenstore.Disk { d.Connected = true; return d }
	a, b, c := xenstore.Disk{Domain: 3, VM: vm7, Name: "xvda"}, xenstore.Disk{Domain: 9, VM: vm7, Name: "xvda"}, xenstore.Disk{Domain: 10, VM: vm7, Name: "xvda"}
	others := []xenstore.Disk{{Domain: 9, VM: vm7, Name: "xvdb"}, {Domain: 4, VM: vm8, Name: "xvda"}}
	for _, tt := range []struct {
		disks []xenstore.Disk
		want  xenstore.Disk
	}{
		{[]xenstore.Disk{a}, a}, {[]xenstore.Disk{c, a, b}, c}, {[]xenstore.Disk{a, c, b}, c}, {[]xenstore.Disk{used(a), b}, used(a)}, {[]xenstore.Disk{b, used(a)}, used(a)},
		{[]xenstore.Disk{used(a), used(b), c}, used(b)},
	} {
		got := oneOfEach(append(tt.disks, others...))
		if len(got) != 3 || !slices.Contains(got, tt.want) || !slices.Contains(got, others[0]) || !slices.Contains(got, others[1]) {
			t.Errorf("%+v: %+v", tt.disks, got)
		}
	}
}

// It waits for a daemon that is not there yet, says so once, and ends when it is told to; killed, it leaves what the next finds.
func TestWaits(t *testing.T) {
	h := newHost(t)
	h.start()
	h.until("it says that nobody is there", func() bool { return strings.Contains(h.log(), "no graphs for now") })
	h.end()
	if strings.Count(h.log(), "\n") != 1 {
		t.Errorf("it said:\n%s", h.log())
	}
	h.startRRDD()
	for range 2 { // each finds a file that the one before left, and a daemon that has that registered
		h.start()
		readings := 0
		h.until("it is read twice", func() bool {
			if _, err := h.rrdd.Read(uid); err == nil {
				readings++
			}
			return readings > 1
		})
		h.must(h.process.Process.Kill())
		<-h.ended
	}
}

// Each line of the unit is one that systemd knows, and what it starts is what the package has.
func TestUnit(t *testing.T) {
	text, err := os.ReadFile("reflinksr-metrics.service")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("systemd-analyze"); err == nil {
		dir := t.TempDir()
		program, unit := filepath.Join(dir, "reflinksr-metrics"), filepath.Join(dir, "reflinksr-metrics.service")
		text := bytes.ReplaceAll(text, []byte("/usr/libexec/reflinksr/reflinksr-metrics"), []byte(program))
		if err := errors.Join(os.WriteFile(program, nil, 0o700), os.WriteFile(unit, text, 0o600)); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput(); err != nil || strings.Contains(string(out), "reflinksr-metrics.service:") {
			t.Errorf("%v: %s", err, out)
		}
	}
	for _, line := range []string{"ExecStart=/usr/libexec/reflinksr/reflinksr-metrics", "ConditionPathExists=|" + rrd.Socket, "WantedBy=multi-user.target", "Restart=on-failure"} {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("it has no line %s", line)
		}
	}
}

func TestUsage(t *testing.T) {
	for args, want := range map[string]string{"x": "takes no arguments", "-x": "flag provided but not defined"} {
		var out, errs bytes.Buffer
		if status := run(context.Background(), []string{args}, &out, &errs); status != 2 || !strings.Contains(errs.String(), want) || out.Len() > 0 {
			t.Errorf("%q: exit %d, %q, %q", args, status, out.String(), errs.String())
		}
	}
	var out, errs bytes.Buffer
	if status := run(context.Background(), []string{"-version"}, &out, &errs); status != 0 || !strings.HasPrefix(out.String(), "reflinksr-metrics ") || errs.Len() > 0 {
		t.Errorf("exit %d, %q, %q", status, out.String(), errs.String())
	}
}

// What the daemon says of its next reading becomes a time to write that is before one, and never one that is long past or at once.
func TestUntilWriting(t *testing.T) {
	for next, want := range map[time.Duration]time.Duration{
		5 * time.Second: 4500 * time.Millisecond, 600 * time.Millisecond: 100 * time.Millisecond, 550 * time.Millisecond: 5050 * time.Millisecond,
		0: 4500 * time.Millisecond, -time.Second: 3500 * time.Millisecond, -time.Hour: 100 * time.Millisecond, time.Hour: 5500 * time.Millisecond,
	} {
		if got := untilWriting(next); got != want {
			t.Errorf("%v: %v, want %v", next, got, want)
		}
	}
}
