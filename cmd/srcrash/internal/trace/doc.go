// Package trace runs a command and stops it before every system call of every of
// its threads and children that can change something, so that the caller can end
// it there, let the call fail, or look at the disk at that moment.
//
// A seccomp filter, installed before the command starts, makes the kernel stop
// exactly these calls for ptrace(2) and lets all others run at full speed. What
// could change a file behind the filter's back (io_uring, a shared writable
// mapping) makes Run fail: a sweep that misses calls would prove nothing.
//
// x86-64 only: a stopped call's arguments are in that processor's registers.
package trace
