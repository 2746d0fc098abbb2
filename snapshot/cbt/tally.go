package cbt

// block is what is known of a number of blocks.
type block struct {
	first, count int64
	stored       bool // something is in them
	alone        bool // that no other file has
	differs      bool // from the other disk
}

// tally gathers pieces of disk to blocks. Of blocks without anything in them nobody is
// told.
type tally struct {
	now  block
	tell func(block)
}

func (t *tally) add(start, end int64, b block) {
	for start < end {
		b.first, b.count = start/granularity, 1
		stop := min(end, (b.first+1)*granularity)
		if start%granularity == 0 && end-start >= granularity {
			b.count = (end - start) / granularity
			stop = start + b.count*granularity
		}
		if t.now.count == 0 || t.now.first != b.first {
			t.flush()
			t.now = b
		} else {
			t.now.stored, t.now.alone, t.now.differs = t.now.stored || b.stored, t.now.alone || b.alone, t.now.differs || b.differs
		}
		start = stop
	}
}

func (t *tally) flush() {
	if t.now.stored {
		t.tell(t.now)
	}
	t.now = block{}
}
