// Package explore interrupts a command at every system call with which it changes
// something, in every way that can be told apart, and has what is left judged:
//
//	kill, term   it is ended there
//	err          the call fails, once or from there on
//	look         a call that only looks at something fails
//	short        a write writes only half
//	lazy         the power fails there; what was not made durable is gone
//	journal      the same, and the filesystem has just committed its metadata
//	double       it is ended there, the host restarts, and the recovery is ended at
//	             every call of its own, by a kill and by a power cut
//
// Each run is on a filesystem of its own, a clone of one image. An exploration
// that could find nothing is refused: the undisturbed command must succeed, change
// something and be judged well, and spoilt states must be noticed. One that must be
// refused is explored for what could let it pass.
package explore
