package precopy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"reflinksr/internal/track"
)

// model is a disk of few blocks, its writers, the processors whose buffers the kernel records
// requests in, and a clone. Whatever the engine calls takes time, and in it any of them may do its next step.
type model struct {
	random     *rand.Rand
	clock      uint64
	pace       int  // how many steps are done meanwhile, below that
	old        bool // a record that interrupts another has its time
	disk       []int
	clone      []int
	writes     []modelWrite // of every one, in the order of issue; the first is none
	underway   []int        // writes that have not been acknowledged
	idle       int          // writers that have none
	processors []processor
	lost       bool
}

// modelWrite is a write of one or two sectors' worth: of the blocks [from, to).
type modelWrite struct {
	first, end    int64 // sectors
	issued, acked uint64
	state         int // what is the next step: see model.step
	on            int // the processor that completes it
}

type processor struct {
	events  []track.Event
	hidden  int    // events from this one on interrupted a record that is not done; -1: none
	outer   uint64 // the time of that record
	visible int    // events that were told
}

const modelSectors = 8 // in a block

func newModel(seed uint64, blocks, writers int) *model {
	m := &model{random: rand.New(rand.NewPCG(seed, 1)), disk: make([]int, blocks), clone: make([]int, blocks), writes: make([]modelWrite, 1), idle: writers}
	m.old, m.pace = seed%2 == 0, 1+m.random.IntN(5)
	m.processors = make([]processor, 1+seed%3)
	for i := range m.processors {
		m.processors[i].hidden = -1
	}
	return m
}

func (m *model) now() uint64 {
	m.clock += slack * 3
	return m.clock
}

// record records an event on a processor, where another record may be under way.
func (m *model) record(on int, e track.Event) {
	p := &m.processors[on]
	e.Time = m.now()
	if p.hidden < 0 && m.random.IntN(6) == 0 {
		p.hidden, p.outer = len(p.events), e.Time
	}
	if p.hidden >= 0 && m.old {
		e.Time = p.outer
	}
	p.events = append(p.events, e)
}

// some lets time go by.
func (m *model) some() {
	for range m.random.IntN(m.pace) {
		m.step()
	}
}

// step does the next step of something.
func (m *model) step() {
	if m.random.IntN(3) == 0 {
		for i := range m.processors {
			if m.random.IntN(2) == 0 {
				m.processors[i].hidden = -1
			}
		}
	}
	if m.idle > 0 && m.random.IntN(4) == 0 {
		first := m.random.Int64N(int64(len(m.disk))*modelSectors - 12)
		w := modelWrite{first: first, end: first + 1 + m.random.Int64N(12), issued: m.now(), on: m.random.IntN(len(m.processors))}
		// The filesystem of a guest does not write to a block twice at once.
		for _, other := range m.underway {
			if o := m.writes[other]; w.first/modelSectors <= (o.end-1)/modelSectors && o.first/modelSectors <= (w.end-1)/modelSectors {
				return
			}
		}
		m.idle--
		m.writes = append(m.writes, w)
		m.underway = append(m.underway, len(m.writes)-1)
		return
	}
	if len(m.underway) == 0 {
		return
	}
	at := m.random.IntN(len(m.underway))
	n := m.underway[at]
	w := &m.writes[n]
	switch w.state {
	case 0:
		m.record(m.random.IntN(len(m.processors)), track.Event{Kind: track.Issued, First: w.first, End: w.end})
	case 1:
		for b := w.first / modelSectors; b*modelSectors < w.end; b++ {
			m.disk[b] = n
		}
	case 2:
		m.record(w.on, track.Event{Kind: track.Completed, First: w.first, End: w.end})
	case 3:
		w.acked = m.now()
		m.underway = slices.Delete(m.underway, at, at+1)
		m.idle++
	}
	w.state++
}

func (m *model) Drain(visit func(track.Event)) error {
	for i := range m.processors {
		m.some()
		p := &m.processors[i]
		end := len(p.events)
		if p.hidden >= 0 {
			end = p.hidden
		}
		for ; p.visible < end; p.visible++ {
			visit(p.events[p.visible])
		}
	}
	m.some()
	return nil
}

func (m *model) Mark() error {
	m.some()
	p := &m.processors[m.random.IntN(len(m.processors))]
	p.hidden = -1 // who marks runs there, and interrupts nobody
	p.events = append(p.events, track.Event{Kind: track.Marked, Time: m.now()})
	m.some()
	return nil
}

func (m *model) Settle() error {
	m.some()
	for i := range m.processors {
		m.processors[i].hidden = -1
	}
	m.some()
	return nil
}

func (m *model) Lost() error {
	if m.lost {
		return track.ErrLost
	}
	return nil
}

// take clones these blocks, at one moment.
func (m *model) take(from, to int64) error {
	m.some()
	copy(m.clone[from:to], m.disk[from:to])
	m.some()
	return nil
}

// judge says why the clone is not what the disk held at a moment between two: whatever is there,
// everything that was acknowledged before it was issued is there as well, or was overwritten.
func (m *model) judge(began, ended uint64) error {
	newest := began
	for _, n := range m.clone {
		if issued := m.writes[n].issued; n > 0 {
			newest = max(newest, issued)
		}
	}
	if newest > ended {
		return fmt.Errorf("a write is there that was issued at %d, after the end at %d", newest, ended)
	}
	for n := 1; n < len(m.writes); n++ {
		w := m.writes[n]
		if w.acked == 0 || w.acked >= newest {
			continue
		}
		for b := w.first / modelSectors; b*modelSectors < w.end; b++ {
			if m.clone[b] < n {
				return fmt.Errorf("block %d holds write %d; write %d, acknowledged at %d, is missing, and one that was issued at %d is there", b, m.clone[b], n, w.acked, newest)
			}
		}
	}
	return nil
}

// whole makes a clone in a first pass of pieces and rounds, as Take does.
func whole(m *model) (r *rounds, err error) {
	r = newRounds(m, int64(len(m.disk)), modelSectors, m.take)
	for from := int64(0); from < int64(len(m.disk)); from += 8 {
		if _, err := r.first(from, from+4); err != nil {
			return r, err
		}
	}
	for range 30 {
		if done, err := r.round(); err != nil || done {
			return r, err
		}
	}
	return r, errors.New("no end")
}

// Whatever writers do between any two steps, and wherever the kernel keeps what it has recorded, a round that
// ends has made a moment of the disk.
func TestEveryCloneIsAMoment(t *testing.T) {
	again, ended := int64(0), 0
	for seed := range uint64(3_000) {
		m := newModel(seed, 32, 1+int(seed%4))
		for range 50 {
			m.step()
		}
		began := m.now()
		r, err := whole(m)
		if err != nil {
			continue // too busy
		}
		ended++
		again += r.recount
		if err := m.judge(began, m.now()); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	if ended < 1_000 || again < int64(ended) {
		t.Errorf("%d ended, %d blocks were cloned again: that shows little", ended, again)
	}
	t.Logf("%d ended, %d blocks cloned again", ended, again)
}

// Pieces alone are no moment: the model can tell.
func TestPiecesAreNoMoment(t *testing.T) {
	found := 0
	for seed := range uint64(300) {
		m := newModel(seed, 16, 4)
		m.pace = 6
		began := m.now()
		for from := int64(0); from < 16; from += 4 {
			m.some()
			m.take(from, from+4)
			m.some()
		}
		if m.judge(began, m.now()) != nil {
			found++
		}
	}
	if found < 50 {
		t.Errorf("%d of 300 found", found)
	}
}

// Events that were lost end it, however well the round went.
func TestLostEvents(t *testing.T) {
	m := newModel(1, 16, 0)
	m.lost = true
	if _, err := whole(m); !errors.Is(err, track.ErrLost) {
		t.Errorf("%v", err)
	}
}
