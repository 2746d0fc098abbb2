// Package track learns from the kernel which parts of a block device are written, while they are.
//
// The kernel tells of every request to a block device when it gives it to the driver
// (block_rq_issue) and when the driver has done it (block_rq_complete; before whoever
// asked for it is told). Both events go to a buffer of each processor, in an instance of
// the tracing filesystem (tracefs) that only this process reads. Everything but reads
// counts: a discard changes what a disk holds as a write does.
//
// An instance ends with Close. What a killed process leaves of one is removed by the next
// Open, and by Sweep: it costs memory, and nothing else.
//
// The format of the buffers is that of the kernel's Documentation/trace/ring-buffer-design
// and of its files events/header_page and events/…/format, which are read: Linux 4.19 to 6.18.
package track
