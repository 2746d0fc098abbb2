package hammer

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

func at(call, ret int64, method, key string) *Event {
	return &Event{Call: call, Return: ret, Method: method, Key: key, Answer: OK}
}

func (e *Event) text(s string) *Event     { e.Text = s; return e }
func (e *Event) size(n int64) *Event      { e.Size = n; return e }
func (e *Event) tag(n uint64) *Event      { e.Tag = n; return e }
func (e *Event) domain(n int) *Event      { e.Domain = n; return e }
func (e *Event) from(key string) *Event   { e.From = key; return e }
func (e *Event) answers(a Answer) *Event  { e.Answer = a; return e }
func (e *Event) sees(s Seen) *Event       { e.Seen = &s; return e }
func (e *Event) making(key string) *Event { e.New = key; return e }
func (e *Event) lists(l map[string]Seen) *Event {
	e.List = l
	return e
}

// a is a volume called "a" of 4 bytes with the tag 0.
func a() Seen { return Seen{Name: "a", Size: 4, ReadWrite: true, Tag: new(uint64)} }

func (s Seen) named(name string) Seen { s.Name = name; return s }
func (s Seen) sized(n int64) Seen     { s.Size = n; return s }
func (s Seen) tagged(n uint64) Seen   { s.Tag = &n; return s }
func (s Seen) unread() Seen           { s.Tag = nil; return s }
func (s Seen) frozen() Seen           { s.ReadWrite = false; return s }
func (s Seen) shared() Seen           { s.Sharable = true; return s }

func made(key string) *Event { return at(0, 1, "Volume.create", "").text("a").making(key).sees(a()) }

// A history is right, or it is not, and then the model says so; what the invariants
// can see of it, they say as well.
func TestHistories(t *testing.T) {
	for _, c := range []struct {
		about string
		right bool
		blind bool // the invariants do not see that it is wrong
		h     []*Event
	}{
		{"a name that was answered is told", true, false, []*Event{made("A"),
			at(2, 3, "Volume.set_name", "A").text("b"),
			at(4, 5, "Volume.stat", "A").sees(a().named("b").unread())}},
		{"a name that was answered is forgotten", false, false, []*Event{made("A"),
			at(2, 3, "Volume.set_name", "A").text("b"),
			at(4, 5, "Volume.stat", "A").sees(a().unread())}},
		{"two changes at once may come in either order", true, false, []*Event{made("A"),
			at(2, 9, "Volume.set_name", "A").text("b"),
			at(3, 8, "Volume.set_name", "A").text("c"),
			at(10, 11, "Volume.stat", "A").sees(a().named("b").unread())}},
		{"one of two changes of different things is lost", false, false, []*Event{made("A"),
			at(2, 9, "Volume.set_name", "A").text("b"),
			at(3, 8, "Volume.set_description", "A").text("d"),
			at(10, 11, "Volume.stat", "A").sees(a().named("b").unread())}},
		{"a name comes back", false, false, []*Event{made("A"),
			at(2, 3, "Volume.set_name", "A").text("b"),
			at(4, 9, "Volume.set_name", "A").text("c"),
			at(5, 6, "Volume.stat", "A").sees(a().named("c").unread()),
			at(7, 8, "Volume.stat", "A").sees(a().unread())}},
		{"a new name is seen before an old one", false, true, []*Event{made("A"),
			at(2, 9, "Volume.set_name", "A").text("b"),
			at(3, 4, "Volume.stat", "A").sees(a().named("b").unread()),
			at(5, 6, "Volume.stat", "A").sees(a().unread())}},
		{"the name is of one moment, the size of another", false, true, []*Event{made("A"),
			at(2, 9, "Volume.stat", "A").sees(a().sized(8).unread()),
			at(3, 4, "Volume.set_name", "A").text("b"),
			at(5, 6, "Volume.resize", "A").size(8)}},
		{"a snapshot's block is of another moment than its name", false, true, []*Event{made("A"),
			at(2, 3, "Datapath.attach", "A"), at(4, 5, "Datapath.activate", "A"),
			at(6, 13, "Volume.snapshot", "A").making("B").sees(a().frozen().tagged(7)),
			at(7, 8, "Volume.set_name", "A").text("b"),
			at(9, 10, writeBlock, "A").tag(7)}},
		{"a snapshot is of one moment", true, false, []*Event{made("A"),
			at(2, 3, "Datapath.attach", "A"), at(4, 5, "Datapath.activate", "A"),
			at(6, 13, "Volume.snapshot", "A").making("B").sees(a().frozen().named("b").tagged(7)),
			at(7, 8, "Volume.set_name", "A").text("b"),
			at(9, 10, writeBlock, "A").tag(7)}},
		{"a snapshot misses a block that was written before", false, false, []*Event{made("A"),
			at(2, 3, "Datapath.attach", "A"), at(4, 5, "Datapath.activate", "A"),
			at(6, 7, writeBlock, "A").tag(7),
			at(8, 9, "Volume.snapshot", "A").making("B").sees(a().frozen())}},
		{"a list without a volume that is there", false, false, []*Event{made("A"),
			at(2, 3, "SR.ls", "").lists(nil)}},
		{"a list without a volume that is being made", true, false, []*Event{
			at(0, 9, "Volume.create", "").text("a").making("A").sees(a()),
			at(2, 3, "SR.ls", "").lists(nil)}},
		{"a list beside a destruction has it, the next one not", true, false, []*Event{made("A"),
			at(2, 9, "Volume.destroy", "A"),
			at(3, 4, "SR.ls", "").lists(map[string]Seen{"A": a().unread()}),
			at(5, 6, "SR.ls", "").lists(nil)}},
		{"a destroyed volume comes back", false, false, []*Event{made("A"),
			at(2, 3, "Volume.destroy", "A"),
			at(4, 5, "SR.ls", "").lists(map[string]Seen{"A": a().unread()})}},
		{"a destroyed volume is changed", false, false, []*Event{made("A"),
			at(2, 3, "Volume.destroy", "A"),
			at(4, 5, "Volume.set_name", "A").text("b")}},
		{"a destroyed volume is destroyed and detached", true, false, []*Event{made("A"),
			at(2, 3, "Volume.destroy", "A"),
			at(4, 5, "Volume.destroy", "A"),
			at(6, 7, "Datapath.detach", "A")}},
		{"a volume that is there is not found", false, false, []*Event{made("A"),
			at(2, 3, "Volume.set_name", "A").text("b").answers(NoVolume).about("A")}},
		{"an attached volume is not destroyed", true, false, []*Event{made("A"),
			at(2, 3, "Datapath.attach", "A"),
			at(4, 5, "Volume.destroy", "A").answers(InUse),
			at(6, 7, "Datapath.detach", "A"),
			at(8, 9, "Volume.destroy", "A")}},
		{"an attached volume is destroyed", false, true, []*Event{made("A"),
			at(2, 3, "Datapath.attach", "A"),
			at(4, 5, "Volume.destroy", "A"),
			at(6, 7, "Datapath.detach", "A")}},
		{"an active volume is destroyed", false, false, []*Event{made("A"),
			at(2, 3, "Datapath.attach", "A"), at(4, 5, "Datapath.activate", "A"),
			at(6, 7, "Volume.destroy", "A"),
			at(8, 9, "Datapath.detach", "A")}},
		{"an idle volume is refused as in use", false, false, []*Event{made("A"),
			at(2, 3, "Volume.destroy", "A").answers(InUse)}},
		{"one of two domains detaches", true, false, []*Event{made("A"),
			at(2, 3, "Datapath.attach", "A").domain(1), at(2, 3, "Datapath.attach", "A").domain(2),
			at(4, 5, "Datapath.detach", "A").domain(1),
			at(6, 7, "Volume.destroy", "A").answers(InUse),
			at(8, 9, "Datapath.activate", "A").domain(2),
			at(10, 11, "Datapath.detach", "A").domain(2)}},
		{"two writers", false, false, []*Event{made("A"),
			at(2, 3, "Datapath.attach", "A").domain(1), at(2, 3, "Datapath.attach", "A").domain(2),
			at(4, 5, "Datapath.activate", "A").domain(1), at(6, 7, "Datapath.activate", "A").domain(2)}},
		{"two writers of a sharable volume", true, false, []*Event{made("A").sees(a().shared()),
			at(2, 3, "Datapath.attach", "A").domain(1), at(2, 3, "Datapath.attach", "A").domain(2),
			at(4, 5, "Datapath.activate", "A").domain(1), at(6, 7, "Datapath.activate", "A").domain(2)}},
		{"a reader beside a writer", false, false, []*Event{made("A"),
			at(2, 3, "Datapath.attach", "A").domain(1), at(2, 3, "Datapath.attach", "A").domain(2),
			at(4, 5, "Datapath.activate", "A").domain(1), at(6, 7, "Datapath.activate_readonly", "A").domain(2)}},
		{"a second writer is refused, and had no effect", true, false, []*Event{made("A"),
			at(2, 3, "Datapath.attach", "A").domain(1), at(2, 3, "Datapath.attach", "A").domain(2),
			at(4, 5, "Datapath.activate", "A").domain(1), at(6, 7, "Datapath.activate", "A").domain(2).answers(InUse),
			at(8, 9, "Datapath.deactivate", "A").domain(1), at(10, 11, "Datapath.activate_readonly", "A").domain(2)}},
		{"activated without being attached", false, true, []*Event{made("A"),
			at(2, 3, "Datapath.activate", "A")}},
		{"a block is read that nobody wrote", false, false, []*Event{made("A"),
			at(2, 3, "Datapath.attach", "A"), at(4, 5, "Datapath.activate", "A"),
			at(6, 7, readBlock, "A").tag(3)}},
		{"a volume does not shrink", true, false, []*Event{made("A"),
			at(2, 3, "Volume.resize", "A").size(2).answers(BadSize),
			at(4, 5, "Volume.resize", "A").size(8),
			at(6, 7, "Volume.stat", "A").sees(a().sized(8).unread())}},
		{"a volume that could grow is refused", false, true, []*Event{made("A"),
			at(2, 3, "Volume.resize", "A").size(8).answers(BadSize)}},
		{"a refused change has its effect", false, false, []*Event{made("A"),
			at(2, 3, "Volume.resize", "A").size(8).answers(BadSize),
			at(4, 5, "Volume.stat", "A").sees(a().sized(8).unread())}},
		{"a revert brings a snapshot's size and block", true, false, []*Event{made("A"),
			at(2, 3, "Volume.snapshot", "A").making("B").sees(a().frozen()),
			at(4, 5, "Volume.resize", "A").size(8),
			at(6, 7, "Volume.revert", "A").from("B"),
			at(8, 9, "Volume.stat", "A").sees(a())}},
		{"a revert has no effect", false, false, []*Event{made("A"),
			at(2, 3, "Volume.snapshot", "A").making("B").sees(a().frozen()),
			at(4, 5, "Volume.resize", "A").size(8),
			at(6, 7, "Volume.revert", "A").from("B"),
			at(8, 9, "Volume.stat", "A").sees(a().sized(8))}},
		{"a revert to a volume as it is being resized", true, false, []*Event{made("A"), made("B"),
			at(2, 9, "Volume.resize", "B").size(8),
			at(3, 8, "Volume.revert", "A").from("B"),
			at(10, 11, "Volume.stat", "A").sees(a().sized(8))}},
		{"a revert to a volume before it was resized", false, true, []*Event{made("A"), made("B"),
			at(2, 3, "Volume.resize", "B").size(8),
			at(4, 5, "Volume.revert", "A").from("B"),
			at(6, 7, "Volume.stat", "A").sees(a())}},
		{"a revert of what is attached", false, true, []*Event{made("A"), made("B"),
			at(2, 3, "Datapath.attach", "A"),
			at(4, 5, "Volume.revert", "A").from("B")}},
		{"a killed change has its effect", true, false, []*Event{made("A"),
			at(2, 3, "Volume.set_name", "A").text("b").answers(Killed),
			at(4, 5, "Volume.stat", "A").sees(a().named("b").unread())}},
		{"a killed change has none", true, false, []*Event{made("A"),
			at(2, 3, "Volume.set_name", "A").text("b").answers(Killed),
			at(4, 5, "Volume.stat", "A").sees(a().unread())}},
		{"a killed change has its effect long after", false, true, []*Event{made("A"),
			at(2, 3, "Volume.set_name", "A").text("b").answers(Killed),
			at(4, 5, "Volume.stat", "A").sees(a().unread()),
			at(6, 7, "Volume.stat", "A").sees(a().named("b").unread())}},
		{"a volume of a killed snapshot", true, false, []*Event{made("A"),
			at(2, 5, "Volume.snapshot", "A").answers(Killed),
			at(3, 4, "Volume.set_name", "A").text("b"),
			at(6, 7, "SR.ls", "").lists(map[string]Seen{"A": a().named("b").unread(), "S": a().frozen().unread()}),
			at(8, 8, stray, "").text("Volume.snapshot").from("A").making("S").sees(a().frozen())}},
		{"a volume of a killed snapshot of another moment", false, false, []*Event{made("A"),
			at(2, 3, "Volume.set_name", "A").text("b"),
			at(4, 5, "Volume.snapshot", "A").answers(Killed),
			at(8, 8, stray, "").text("Volume.snapshot").from("A").making("S").sees(a().frozen())}},
		{"a volume that nobody made", false, false, []*Event{made("A"),
			at(8, 8, stray, "").text("Volume.snapshot").from("A").making("S").sees(a().frozen())}},
		{"a killed attachment is noted, but has no device", true, false, []*Event{made("A"),
			at(2, 3, "Datapath.attach", "A").answers(Killed),
			at(4, 5, "Datapath.activate", "A").answers(Invalid),
			at(6, 7, "Volume.destroy", "A"),
			at(8, 9, "Datapath.detach", "A")}},
		{"a killed detachment's device goes later", true, false, []*Event{made("A"),
			at(2, 3, "Datapath.attach", "A"),
			at(4, 5, "Datapath.detach", "A").answers(Killed),
			at(6, 7, "Volume.destroy", "A").answers(InUse),
			at(8, 9, "Volume.destroy", "A")}},
	} {
		t.Run(c.about, func(t *testing.T) {
			all, violations := parts(c.h)
			bad := within(all, time.Minute)
			if right := len(bad)+len(violations) == 0; right != c.right {
				t.Errorf("right: %v, want %v: %v %v", right, c.right, bad, violations)
			}
			for _, v := range bad {
				if v.result != porcupine.Illegal || len(v.stuck) == 0 {
					t.Errorf("%s: %d steps found no place", v.result, len(v.stuck))
				}
			}
			if right := len(invariant(all))+len(violations) == 0; right != (c.right || c.blind) {
				t.Errorf("by the invariants right: %v; blind: %v", right, c.blind)
			}
		})
	}
}

func (e *Event) about(key string) *Event { e.About = key; return e }

// What a worker chooses follows from the seed.
func TestChoices(t *testing.T) {
	choices := func(seed uint64) (all []choice) {
		w := newWorker(&round{Workload: Workload{Kills: 10, Mix: mixes[0]}, seed: seed}, 3)
		for range 100 {
			all = append(all, w.choose())
		}
		return all
	}
	same, other := 0, 0
	kills := 0
	a, b, c := choices(1), choices(1), choices(2)
	for i := range a {
		if a[i] == b[i] {
			same++
		}
		if a[i] == c[i] {
			other++
		}
		if a[i].kill > 0 {
			kills++
		}
	}
	if same != 100 || other > 5 || kills == 0 || kills > 30 {
		t.Errorf("%d of 100 choices are the same with the same seed, %d with another; %d kill", same, other, kills)
	}
}

// A torn block is noticed.
func TestTornBlock(t *testing.T) {
	b := block()
	fill(b, 7)
	if tag, err := tagOf(b); tag != 7 || err != nil {
		t.Error(tag, err)
	}
	fill(b[512:1024], 8)
	if _, err := tagOf(b); err == nil {
		t.Error("a sector of another write was not noticed")
	}
}
