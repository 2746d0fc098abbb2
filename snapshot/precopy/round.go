package precopy

import "reflinksr/internal/track"

// tracer tells what a block device is asked to do: a track.Trace, but in tests.
type tracer interface {
	Drain(visit func(track.Event)) error
	Mark() error
	Settle() error
	Lost() error
}

// A batch of ranges is cloned between two drains, and a range is cloned at once: so few
// blocks hold a write up for no longer than a write takes.
const (
	batchRanges = 16
	rangeBlocks = 32
)

// By how much the kernel's times may be wrong, in nanoseconds. A record that was taken back leaves one behind
// (slack). The clocks of two processors may differ where the hardware does not keep them together (skew): what was
// completed so soon after the moment may have been before it.
const (
	slack = 1000
	skew  = 50_000
)

// rounds clones again what was written until the clone is a moment of the disk.
type rounds struct {
	trace  tracer
	clone  func(from, to int64) error                  // makes these blocks of the clone those of the disk
	length func(from, to int64) (end int64, err error) // where a range ends that may be cloned at once, if more is to be
	expire func() error                                // not nil when it has taken too long
	sector int64                                       // how many sectors a block has
	dirty  *track.Bitmap                               // the blocks that were written and not cloned since

	since   *track.Bitmap // in this round: those of writes that were issued since the moment
	later   *track.Bitmap // those of writes that were completed after it
	chosen  *track.Bitmap // S
	moment  uint64        // when it was
	cloned  uint64        // when the last batch was done; 0: none is
	late    bool          // something was told later than it should have been, and matters
	recount int64         // blocks cloned again, in all rounds
}

// newRounds are those of a disk with so many blocks of so many sectors, of which none is dirty.
func newRounds(trace tracer, blocks, sectors int64, clone func(from, to int64) error) *rounds {
	return &rounds{
		trace: trace, clone: clone, sector: sectors,
		length: func(from, to int64) (int64, error) { return min(to, from+rangeBlocks), nil },
		expire: func() error { return nil },
		dirty:  track.NewBitmap(blocks), since: track.NewBitmap(blocks), later: track.NewBitmap(blocks), chosen: track.NewBitmap(blocks),
	}
}

// blocks are those that a request touches, and be it in part.
func (r *rounds) blocks(e track.Event) (from, to int64) {
	return e.First / r.sector, (e.End + r.sector - 1) / r.sector
}

// follow puts what was completed into dirty, before the first round.
func (r *rounds) follow() (busy bool, err error) {
	err = r.trace.Drain(func(e track.Event) {
		busy = true
		if e.Kind == track.Completed {
			r.dirty.Set(r.blocks(e))
		}
	})
	return busy, err
}

// first clones a piece for the first time, and says whether anything was written lately. What is written to it
// from here on is told by the trace.
func (r *rounds) first(from, to int64) (busy bool, err error) {
	if busy, err = r.follow(); err != nil {
		return busy, err
	}
	r.dirty.Clear(from, to)
	return busy, r.clone(from, to)
}

// round tries to make the clone a moment of the disk, and says whether it is one.
func (r *rounds) round() (done bool, err error) {
	if _, err := r.follow(); err != nil {
		return false, err
	}
	if err := r.begin(); err != nil {
		return false, err
	}
	defer func() { r.dirty.Add(r.later) }()
	batch := make([]track.Run, 0, batchRanges)
	for _, run := range r.chosen.Runs() {
		for run.From < run.To {
			end, err := r.length(run.From, run.To)
			if err != nil {
				return false, err
			}
			batch = append(batch, track.Run{From: run.From, To: end})
			if run.From = end; len(batch) < batchRanges {
				continue
			}
			if undisturbed, err := r.again(batch); err != nil || !undisturbed {
				return false, err
			}
			batch = batch[:0]
		}
	}
	if undisturbed, err := r.again(batch); err != nil || !undisturbed {
		return false, err
	}
	return r.end()
}

// begin chooses the moment, and what is to be cloned to make the clone that.
func (r *rounds) begin() error {
	r.since.Reset()
	r.later.Reset()
	r.chosen.Reset()
	r.cloned, r.late = 0, false
	if err := r.trace.Mark(); err != nil {
		return err
	}
	events, at, err := r.told()
	if err != nil {
		return err
	}
	r.moment = at
	for _, e := range events {
		switch from, to := r.blocks(e); {
		case e.Kind == track.Issued:
			r.since.Set(from, to) // also of a moment before: they lie too close together to be told apart
		case e.Time <= r.moment+skew:
			r.dirty.Set(from, to)
		default:
			r.later.Set(from, to)
		}
	}
	r.chosen.Add(r.dirty)
	return nil
}

// told drains the trace, up to a mark that was made.
func (r *rounds) told() (events []track.Event, mark uint64, err error) {
	marked := false
	err = r.trace.Drain(func(e track.Event) {
		if e.Kind == track.Marked {
			mark, marked = e.Time, true
			return
		}
		events = append(events, e)
	})
	if err == nil && !marked {
		err = errNoMark
	}
	return events, mark, err
}

// before says whether an event may have been before the moment.
func (r *rounds) before(e track.Event) bool { return e.Time <= r.moment+slack }

// again clones a batch, and says whether the round can go on.
func (r *rounds) again(batch []track.Run) (undisturbed bool, err error) {
	if err := r.expire(); err != nil || len(batch) == 0 {
		return true, err
	}
	for _, run := range batch {
		r.dirty.Clear(run.From, run.To)
	}
	for _, run := range batch {
		if err := r.clone(run.From, run.To); err != nil {
			return false, err
		}
		r.recount += run.To - run.From
	}
	if err := r.trace.Mark(); err != nil {
		return false, err
	}
	events, at, err := r.told()
	if err != nil {
		return false, err
	}
	r.look(events)
	r.cloned = at
	for _, run := range batch {
		if r.since.Any(run.From, run.To) {
			return false, nil
		}
	}
	return !r.late, nil
}

// look follows the trace in a round. What happened before the mark of the batch before should have
// been told by the drain after that.
func (r *rounds) look(events []track.Event) {
	for _, e := range events {
		switch from, to := r.blocks(e); {
		case e.Kind == track.Issued:
			r.since.Set(from, to)
			r.late = r.late || e.Time <= r.cloned+slack && r.chosen.Any(from, to)
		default:
			r.dirty.Set(from, to)
			r.late = r.late || r.before(e) && !r.all(from, to)
		}
	}
}

// all says whether all these blocks are chosen.
func (r *rounds) all(from, to int64) bool {
	for block := from; block < to; block++ {
		if !r.chosen.Any(block, block+1) {
			return false
		}
	}
	return true
}

// end says whether the round has made a moment of it: nothing that was recorded by now, on any
// processor, says that it has not.
func (r *rounds) end() (done bool, err error) {
	if err := r.trace.Settle(); err != nil {
		return false, err
	}
	var events []track.Event
	if err := r.trace.Drain(func(e track.Event) { events = append(events, e) }); err != nil {
		return false, err
	}
	r.look(events)
	if err := r.trace.Lost(); err != nil {
		return false, err
	}
	return !r.late, nil
}
