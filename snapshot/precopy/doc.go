// Package precopy makes the clone of a disk while a guest writes to it, without holding its writes.
//
// FICLONE locks the whole file for as long as its extents take. Here the disk is cloned in
// pieces of a millisecond, while the kernel's trace of its block device (internal/track) tells
// which blocks are written; those are cloned again, and again, until a round has an end: the
// clone is then what the disk held at one moment in the round. No write is held for longer than
// one piece takes, nothing is frozen, and a guest of a process that is killed notices nothing.
//
// # Why the clone is a moment of the disk
//
// A round begins with a drain of the trace, which puts every block of which a write was
// completed into the set dirty. Then a mark is made in the trace: the moment. The next drain
// tells it. S is the blocks of dirty of which a write was completed before the moment, or so soon after it that
// the clocks of two processors may disagree (skew). The blocks
// of S are cloned in batches: they are taken out of dirty, cloned, and the trace is drained. If it
// tells of a write to a block of the batch that was issued after the drain before the mark, the round
// has failed, and the next begins. When all batches are done, the trace is drained once more, after
// every processor has left whatever it was doing (Settle), and must tell of nothing that should
// have been told before.
//
// A write that was acknowledged before the moment is in the clone. It was recorded as
// completed before that, with a time that is not later than the mark's. If a drain up to the one
// that tells the mark told of it, its block was put into dirty when the write was in the file; blocks
// are taken out of dirty only before they are cloned again; so either it was cloned after that, or it
// is in S and is cloned then. If a later drain told of it, the round has failed, unless its block is in S.
//
// A write that was issued after the moment is not in the clone. A block that is not in S was cloned
// before the moment. Of one in S the clone holds the write only if that was recorded as issued
// before the clone read the block; the drain after the batch tells of it, or the last one: the round
// has failed.
//
// What was under way at the moment may be there or not, block by block, as after a power cut: whatever
// depends on it was issued after its acknowledgement.
//
// One FICLONERANGE is one moment of its range, as it locks the file; what it finds in the page
// cache it writes out first. So all of this holds where the device's writes go through the page
// cache as well.
//
// # What is assumed
//
// Nobody but the one device writes to the file. The caller keeps others out by the volume's lock;
// what does not take that (a device of another program's) is watched for.
//
// The kernel's clock for traces, which is one for all processors, tells two of them apart by less than skew, and what
// is between two events that depend on each other, a write's way through the driver. Nobody switches the events of the
// trace off and on again meanwhile; who leaves them off is noticed.
package precopy
