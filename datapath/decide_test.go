package datapath

import (
	"testing"

	"reflinksr/datapath/lease"
	"reflinksr/internal/attached"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/loop"
	"reflinksr/sr"
)

const (
	aKey     = sr.Key("365c68ee-966a-4644-880d-1122a36ab9a1")
	otherKey = sr.Key("465c68ee-966a-4644-880d-1122a36ab9a1")
)

// A writer is alone, readers are among themselves, and a sharable volume has any number of either.
func TestAdmit(t *testing.T) {
	me := hostinfo.Host{UUID: "me", Boot: "now"}
	here := func(domain string, write bool) lease.Holder {
		return lease.Holder{Host: "me", Boot: "now", Domain: domain, Write: write}
	}
	there := func(domain string, write bool) lease.Holder {
		return lease.Holder{Host: "other", Boot: "x", Domain: domain, Write: write}
	}
	for _, c := range []struct {
		why             string
		held            []lease.Holder
		write, sharable bool
		already         bool
		inTheWay        string // its domain
	}{
		{"nobody has it", nil, true, false, false, ""},
		{"reads beside a reader", []lease.Holder{here("2", false)}, false, false, false, ""},
		{"reads beside a reader of another host", []lease.Holder{there("2", false)}, false, false, false, ""},
		{"reads beside a writer", []lease.Holder{here("2", true)}, false, false, false, "2"},
		{"writes beside a reader", []lease.Holder{here("2", false)}, true, false, false, "2"},
		{"writes beside a writer", []lease.Holder{here("2", true)}, true, false, false, "2"},
		{"writes beside a writer of another host", []lease.Holder{there("2", true)}, true, false, false, "2"},
		{"writes beside itself", []lease.Holder{here("1", true)}, true, false, true, ""},
		{"reads beside itself", []lease.Holder{here("1", false), here("2", false)}, false, false, true, ""},
		{"writes while it reads", []lease.Holder{here("1", false)}, true, false, false, "1"},
		{"a domain of another host has its number", []lease.Holder{there("1", true)}, true, false, false, "1"},
		{"shared writers", []lease.Holder{here("2", true), there("3", true)}, true, true, false, ""},
		{"a reader of a sharable volume that is written", []lease.Holder{there("3", true)}, false, true, false, "3"},
		{"the second of several is in the way", []lease.Holder{here("2", false), there("3", true)}, false, false, false, "3"},
	} {
		already, inTheWay := admit(c.held, me, "1", c.write, c.sharable)
		domain := ""
		if inTheWay != nil {
			domain = inTheWay.Domain
		}
		if already != c.already || domain != c.inTheWay {
			t.Errorf("%s: already %v, in the way %q", c.why, already, domain)
		}
	}
}

// A lock excludes whoever else there is, but for the disk that this host has attached by the interface of which locks are. By force it is
// taken from who has it; a domain of this host is not thrown out.
func TestAdmitLock(t *testing.T) {
	me := hostinfo.Host{UUID: "me", Boot: "now"}
	here := func(domain, lock string) lease.Holder {
		return lease.Holder{Host: "me", Boot: "now", Domain: domain, Write: true, Lock: lock}
	}
	there := func(domain, lock string) lease.Holder {
		return lease.Holder{Host: "other", Boot: "x", Domain: domain, Write: true, Lock: lock}
	}
	for _, c := range []struct {
		why      string
		held     []lease.Holder
		force    bool
		mine     bool
		inTheWay string // its domain
	}{
		{"nobody has it", nil, false, false, ""},
		{"it is locked already", []lease.Holder{here(lockHolder, "user")}, false, true, ""},
		{"somebody else has locked it here", []lease.Holder{here(lockHolder, "another")}, false, false, lockHolder},
		{"somebody of the same name has locked it on another host", []lease.Holder{there(lockHolder, "user")}, false, false, lockHolder},
		{"it is attached here", []lease.Holder{here(attached.SMAPIv1, "")}, false, false, ""},
		{"it is attached and locked here", []lease.Holder{here(attached.SMAPIv1, ""), here(lockHolder, "user")}, false, true, ""},
		{"it is attached there", []lease.Holder{there(attached.SMAPIv1, "")}, false, false, attached.SMAPIv1},
		{"a guest of this host has it", []lease.Holder{here("7", "")}, false, false, "7"},
		{"by force from somebody here", []lease.Holder{here(lockHolder, "another")}, true, false, ""},
		{"by force from another host, which has it attached", []lease.Holder{there(lockHolder, "another"), there(attached.SMAPIv1, "")}, true, false, ""},
		{"by force from itself: what others have is gone then", []lease.Holder{here(lockHolder, "user")}, true, false, ""},
		{"by force from a guest of this host", []lease.Holder{there(lockHolder, "another"), here("7", "")}, true, false, "7"},
	} {
		mine, inTheWay := admitLock(c.held, me, "user", c.force)
		domain := ""
		if inTheWay != nil {
			domain = inTheWay.Domain
		}
		if mine != c.mine || domain != c.inTheWay {
			t.Errorf("%s: mine %v, in the way %q", c.why, mine, domain)
		}
	}
	left := withoutLocks([]lease.Holder{here("7", ""), here(lockHolder, "user"), there(lockHolder, "user")}, me)
	if len(left) != 2 || left[0].Domain != "7" || left[1].Host != "other" {
		t.Errorf("without locks of this host: %v", left)
	}
}

// The device of a file is taken as it is, mended, replaced or refused.
func TestFits(t *testing.T) {
	want := loop.Info{Size: 1 << 30, SectorSize: 512, DirectIO: true}
	with := func(edit func(*loop.Info)) loop.Info {
		have := want
		edit(&have)
		return have
	}
	for _, c := range []struct {
		why   string
		have  loop.Info
		bound loop.Binding
		idle  fitness
		inUse fitness
	}{
		{"as it must be", want, loop.Binding{}, asItIs, asItIs},
		{"shorter, for the file has grown", with(func(i *loop.Info) { i.Size = 1 << 20 }), loop.Binding{}, resized, resized},
		{"longer", with(func(i *loop.Info) { i.Size = 1 << 40 }), loop.Binding{}, resized, resized},
		{"other sectors", with(func(i *loop.Info) { i.SectorSize = 4096 }), loop.Binding{}, replaced, refused},
		{"buffered", with(func(i *loop.Info) { i.DirectIO = false }), loop.Binding{}, replaced, asItIs},
		{"bound read-only", want, loop.Binding{ReadOnly: true}, replaced, asItIs},
		{"marked read-only alone", with(func(i *loop.Info) { i.ReadOnly = true }), loop.Binding{}, asItIs, asItIs},
		{"a part of the file", want, loop.Binding{Offset: 4096}, replaced, refused},
		{"the beginning of the file", want, loop.Binding{SizeLimit: 4096}, replaced, refused},
		{"a part, and shorter", with(func(i *loop.Info) { i.Size = 1 << 20 }), loop.Binding{Offset: 1 << 20}, replaced, refused},
	} {
		if got := fits(c.have, c.bound, want, false); got != c.idle {
			t.Errorf("%s, nobody has it: %d, want %d", c.why, got, c.idle)
		}
		if got := fits(c.have, c.bound, want, true); got != c.inUse {
			t.Errorf("%s, domains have it: %d, want %d", c.why, got, c.inUse)
		}
	}
}

// Direct I/O is asked for where it is right: it depends on the filesystem, on checksums, on sectors and on the kernel.
func TestDirectIO(t *testing.T) {
	xcpng, before, first, today := hostinfo.Kernel{Major: 4, Minor: 19}, hostinfo.Kernel{Major: 5, Minor: 3}, hostinfo.Kernel{Major: 5, Minor: 4}, hostinfo.Kernel{Major: 6, Minor: 18}
	for _, c := range []struct {
		why  string
		disk disk
		want bool
	}{
		{"btrfs without checksums", disk{"btrfs", false, 512, today}, true},
		{"btrfs without checksums, on an old kernel", disk{"btrfs", false, 512, xcpng}, true},
		{"btrfs with checksums", disk{"btrfs", true, 512, today}, false},
		{"btrfs with checksums, wide sectors", disk{"btrfs", true, 4096, today}, false},
		{"XFS", disk{"xfs", false, 512, today}, true},
		{"XFS, wide sectors", disk{"xfs", false, 4096, today}, true},
		{"XFS, where a clone is one moment for the first time", disk{"xfs", false, 512, first}, true},
		{"XFS before that", disk{"xfs", false, 512, before}, false},
		{"XFS before that, wide sectors", disk{"xfs", false, 4096, before}, false},
		{"XFS in XCP-ng 8.3, wide sectors", disk{"xfs", false, 4096, xcpng}, false},
		{"XFS on a kernel that does not say which it is", disk{"xfs", false, 4096, hostinfo.Kernel{}}, false},
		{"NFS", disk{"nfs", false, 512, xcpng}, true},
		{"OCFS2", disk{"ocfs2", false, 512, today}, false},
		{"OCFS2, wide sectors", disk{"ocfs2", false, 4096, today}, true},
	} {
		if got := directIO(c.disk); got != c.want {
			t.Errorf("%s: %v", c.why, got)
		}
	}
}

// An SR is detached unless a domain has a device of a volume of it.
func TestEnding(t *testing.T) {
	for _, c := range []struct {
		why     string
		note    lease.Note
		devices int
		want    ending
	}{
		{"nothing", lease.Note{}, 0, ending{}},
		{"attached", lease.Note{Domains: []string{"1"}}, 1, ending{refused: true}},
		{"attached to two, and stuck before", lease.Note{Domains: []string{"1", "2"}, Stuck: true}, 1, ending{refused: true}},
		{"an attach that died before its device", lease.Note{Domains: []string{"1"}}, 0, ending{}},
		{"a device of nobody", lease.Note{}, 1, ending{}},
		{"stuck", lease.Note{Stuck: true}, 1, ending{unbind: true}},
		{"a nonpersistent disk that was never closed", lease.Note{Nonpersistent: true, Used: true}, 0, ending{discard: true}},
		{"one that is attached", lease.Note{Nonpersistent: true, Domains: []string{"1"}}, 1, ending{refused: true}},
		{"one that is stuck", lease.Note{Nonpersistent: true, Stuck: true}, 1, ending{unbind: true, discard: true}},
	} {
		if got := endingOf(c.note, c.devices); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.why, got, c.want)
		}
	}
}

// What a former boot or an interrupted call left is found by names alone.
func TestLeftover(t *testing.T) {
	me := hostinfo.Host{UUID: "me", Boot: "now"}
	own, others := lease.NonpersistentName(aKey, me), lease.NonpersistentName(aKey, hostinfo.Host{UUID: "other"})
	for _, c := range []struct {
		why            string
		note           lease.Note
		staged, leases []string
		first          bool
		want           leftover
	}{
		{"nothing", lease.Note{}, nil, nil, true, leftover{}},
		{"what belongs to another volume", lease.Note{}, []string{lease.NonpersistentName(otherKey, me), string(aKey), string(aKey) + ".inf"}, []string{string(otherKey)}, true, leftover{}},
		{"this host's nonpersistent disk", lease.Note{}, []string{own}, nil, false, leftover{nonpersistent: true}},
		{"another host's", lease.Note{}, []string{others}, nil, false, leftover{}},
		{"another host's, where only one can have it", lease.Note{}, []string{others}, nil, true, leftover{nonpersistent: true}},
		{"of this host when it was called otherwise", lease.Note{Host: "other"}, []string{others}, nil, false, leftover{nonpersistent: true}},
		{"an attach that did not come to its end", lease.Note{}, []string{sr.Renewed(aKey), sr.Renewed(otherKey)}, nil, false, leftover{renewed: true}},
		{"a lease", lease.Note{}, nil, []string{string(otherKey), string(aKey)}, false, leftover{lease: true}},
		{"a device", lease.Note{Stuck: true}, nil, nil, false, leftover{device: true}},
	} {
		if got := leftoverOf(aKey, me, c.note, c.staged, c.leases, c.first); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.why, got, c.want)
		}
	}
}

// Recovery takes nothing that a domain has, nor what waits to be attached.
func TestRecovery(t *testing.T) {
	all := leftover{nonpersistent: true, lease: true, device: true}
	for _, c := range []struct {
		why   string
		what  leftover
		note  lease.Note
		first bool
		want  remedy
	}{
		{"nothing is left", leftover{}, lease.Note{}, true, remedy{}},
		{"a domain has it", all, lease.Note{Domains: []string{"1"}, Stuck: true, Nonpersistent: true, Used: true}, false, remedy{publish: true}},
		{"a nonpersistent disk waits to be attached", all, lease.Note{Nonpersistent: true}, false, remedy{publish: true}},
		{"one that has served its guest", all, lease.Note{Nonpersistent: true, Used: true}, false, remedy{discard: true, publish: true}},
		{"one that nobody notes", all, lease.Note{}, false, remedy{discard: true, publish: true}},
		{"a device that is stuck", all, lease.Note{Stuck: true, Nonpersistent: true}, false, remedy{unbind: true, publish: true}},
		{"it was stuck, and is no more", leftover{device: true}, lease.Note{}, false, remedy{}},
		{"the first in this boot, in use", all, lease.Note{Domains: []string{"1"}}, true, remedy{discardOthers: true, sweep: true}},
		{"the first in this boot", all, lease.Note{Stuck: true}, true, remedy{unbind: true, discard: true, discardOthers: true, sweep: true}},
	} {
		if got := c.what.remedy(c.note, c.first); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.why, got, c.want)
		}
	}
}

// A disk's file is for dom0 if nobody else may write to the disk while dom0 has it active.
func TestOffersFile(t *testing.T) {
	nonpersistent := lease.Note{Nonpersistent: true}
	for _, c := range []struct {
		domain                         string
		note                           lease.Note
		readWrite, sharable, clustered bool
		want                           bool
	}{
		{"0", lease.Note{}, true, false, false, true},
		{"u0-a", lease.Note{}, true, false, false, true},
		{"u0_a", lease.Note{}, false, false, false, true},
		{"u0_a", lease.Note{}, false, false, true, true},
		{"u0_a", lease.Note{}, true, false, true, false},
		{"0", lease.Note{}, true, true, false, false},
		{"0", lease.Note{}, true, true, true, false},
		{"0", nonpersistent, true, false, false, false},
		{"0", nonpersistent, false, false, false, false},
		{"1", lease.Note{}, true, false, false, false},
		{"u0", lease.Note{}, true, false, false, false},
		{"u01", lease.Note{}, true, false, false, false},
		{"00", lease.Note{}, true, false, false, false},
		{"u1_0", lease.Note{}, false, false, false, false},
	} {
		if got := offersFile(c.domain, c.note, c.readWrite, c.sharable, c.clustered); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
