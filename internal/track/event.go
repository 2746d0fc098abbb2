package track

import "encoding/binary"

// Kind is what an Event tells.
type Kind int

const (
	Issued    Kind = iota // a request that is no read was given to the driver
	Completed             // the driver has done one, or a part of it; who asked is told after this
	Marked                // Mark was called
)

// Event is one thing that the kernel has told.
type Event struct {
	Kind       Kind
	Time       uint64 // nanoseconds, of one clock for all processors, which tells it right to some microseconds
	First, End int64  // the sectors of 512 bytes [First, End) of the device
}

// events is how the kernel writes the events that are asked for.
type events struct {
	page              page
	issued, completed request
	mark              int // the number of a mark
}

// each calls visit for what counts on a page.
func (e events) each(b []byte, visit func(Event)) error {
	broken := false
	err := e.page.each(b, func(time uint64, event []byte) {
		if len(event) < 2 {
			broken = true
			return
		}
		switch id := int(binary.NativeEndian.Uint16(event)); id {
		case e.issued.id:
			broken = broken || !e.issued.tell(Issued, time, event, visit)
		case e.completed.id:
			broken = broken || !e.completed.tell(Completed, time, event, visit)
		case e.mark:
			visit(Event{Kind: Marked, Time: time})
		}
	})
	if err == nil && broken {
		err = errBroken
	}
	return err
}

// tell calls visit if a request changes what the device holds. It answers false for bytes that are none.
func (r request) tell(kind Kind, time uint64, event []byte, visit func(Event)) bool {
	if len(event) < r.shortest {
		return false
	}
	first := binary.NativeEndian.Uint64(event[r.sector.offset:])
	count := binary.NativeEndian.Uint32(event[r.count.offset:])
	if isRead(event[r.op.offset:r.op.offset+r.op.size]) || count == 0 { // a flush has no sectors
		return true
	}
	if first > 1<<62 {
		return false
	}
	visit(Event{kind, time, int64(first), int64(first) + int64(count)})
	return true
}

// isRead says whether a request only reads, by its letters (blk_fill_rwbs): an F before them all asks
// for a flush first.
func isRead(op []byte) bool {
	if op[0] == 'F' {
		op = op[1:]
	}
	return op[0] == 'R'
}
