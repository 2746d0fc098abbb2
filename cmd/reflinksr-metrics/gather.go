package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"reflinksr/internal/diskstat"
	"reflinksr/internal/repository"
	"reflinksr/internal/rrd"
	"reflinksr/internal/xenstore"
)

// gatherer measures the disks of this host.
type gatherer struct {
	places  []string // of xenstored
	store   *xenstore.Client
	guests  map[string][]xenstore.Disk // by the kernel's name of the device
	without bool                       // xenstored could not be asked, which was told

	meter diskstat.Meter[repository.Disk]
	srs   diskstat.Groups
}

func newGatherer(places []string) *gatherer {
	return &gatherer{places: places, srs: diskstat.Groups{}}
}

func (g *gatherer) close() {
	if g.store != nil {
		g.store.Close()
	}
}

// gather answers the graphs of all SRs that have disks here, and of all guests' disks of them.
func (g *gatherer) gather(ctx context.Context) ([]rrd.Source, error) {
	disks, err := repository.Disks(ctx)
	if err != nil {
		return nil, err
	}
	g.ask()
	counted := make(map[repository.Disk]diskstat.Counters, len(disks))
	for _, d := range disks {
		c, err := diskstat.Of(d.Device)
		switch {
		case err == nil:
			counted[d] = c
		case !errors.Is(err, os.ErrNotExist): // else it has gone meanwhile
			slog.Warn("a disk cannot be measured", "sr", d.SR, "key", d.Key, "err", err)
		}
	}
	measured := g.meter.Read(time.Now(), counted)
	return sources(measured, diskstat.Add(g.srs, measured, func(d repository.Disk) string { return d.SR }), g.guests), nil
}

// sources names what was measured, in an order that stays the same: then the daemon need not read the names again.
func sources(disks map[repository.Disk]diskstat.Activity, srs map[string]diskstat.Activity, guests map[string][]xenstore.Disk) (all []rrd.Source) {
	for _, uuid := range slices.Sorted(maps.Keys(srs)) {
		all = append(all, rrd.DiskSources(rrd.Host, "SR", rrd.SRName(uuid), srs[uuid])...)
	}
	for _, d := range slices.SortedFunc(maps.Keys(disks), func(a, b repository.Disk) int {
		return cmp.Or(cmp.Compare(a.SR, b.SR), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Device, b.Device))
	}) {
		for _, guest := range guests[d.Device] {
			all = append(all, rrd.DiskSources(rrd.VM(guest.VM), "device "+guest.Name, rrd.DiskName(guest.Name), disks[d])...)
		}
	}
	return all
}

// ask finds out which guests have which devices, if anything has changed about that. Without xenstore, SRs have graphs all the same.
func (g *gatherer) ask() {
	err := g.learn()
	switch {
	case err == nil && g.without:
		slog.Info("xenstore tells again which guest has which disk")
	case err != nil && !g.without:
		slog.Warn("xenstore cannot be asked which guest has which disk; only SRs have graphs", "err", err)
	}
	if g.without = err != nil; g.without && g.store != nil {
		g.store.Close()
		g.store, g.guests = nil, nil
	}
}

func (g *gatherer) learn() (err error) {
	if g.store == nil {
		if g.store, err = xenstore.Open(g.places); err != nil {
			return err
		}
		if err := g.store.Watch(xenstore.Backends); err != nil {
			return err
		}
	}
	if g.store.Over() {
		return errors.New("xenstored has ended the connection")
	}
	if !g.store.Changed() && g.guests != nil {
		return nil
	}
	g.guests = nil // until all of it is known
	disks, err := g.store.Disks()
	if err != nil {
		return err
	}
	guests := map[string][]xenstore.Disk{}
	for _, d := range oneOfEach(disks) {
		name, err := deviceOf(d)
		if err != nil || !plain(d) {
			continue // it is just being made or ended, or no blkback of ours
		}
		guests[name] = append(guests[name], d)
	}
	for _, of := range guests {
		slices.SortFunc(of, func(a, b xenstore.Disk) int { return cmp.Or(cmp.Compare(a.VM, b.VM), cmp.Compare(a.Name, b.Name)) })
	}
	g.guests = guests
	return nil
}

// oneOfEach leaves one disk of each VM by each name, for a graph has one value: while a VM is migrated within this host,
// two domains have its disks. It is the one that is in use, else that of the later domain.
func oneOfEach(disks []xenstore.Disk) []xenstore.Disk {
	type named struct{ vm, name string }
	one := map[named]xenstore.Disk{}
	for _, d := range disks {
		of := named{d.VM, d.Name}
		was, twice := one[of]
		if !twice || d.Connected && !was.Connected || d.Connected == was.Connected && d.Domain > was.Domain {
			one[of] = d
		}
	}
	return slices.Collect(maps.Values(one))
}

func deviceOf(d xenstore.Disk) (string, error) {
	if d.Major != 0 {
		return diskstat.NameOf(d.Major, d.Minor)
	}
	return diskstat.NameAt(d.Path)
}

// plain says whether a disk can name a graph: an owner with a blank in it would be none to the daemon, which then reads nothing.
func plain(d xenstore.Disk) bool {
	odd := func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'z') && r != '-' }
	return d.VM != "" && d.Name != "" && len(d.VM)+len(d.Name) < 256 && !strings.ContainsFunc(d.VM+d.Name, odd)
}
