// Package trace runs a command and stops it before every system call of every of
// its threads and children that can change something, so that the caller can end
// it there, let the call fail, or look at the disk at that moment.
//
// A seccomp filter, installed before the command starts, lets the calls that are
// known to be harmless run at full speed and makes the kernel stop all others for
// ptrace(2). What could change a file behind the filter's back (asynchronous I/O, a
// shared writable mapping), and calls of which nobody has said what they do, make Run
// fail: a sweep that misses calls would prove nothing.
//
// x86-64 only: a stopped call's arguments are in that processor's registers.
package trace
