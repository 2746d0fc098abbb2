// Package repository has every use case of an SR and its volumes once: what a caller may want done, whichever
// way it asks. A wire or a tool turns what it was asked into a call of this package, and the answer or the error into
// what its callers understand; the rooms below do the parts.
//
// An SR, a volume and a disk on its way to a guest are named by an SR, a Volume and a Datapath. Names are parsed
// once, here: rooms get none that could lead anywhere else. Errors have the classes of package fault.
//
// The context carries what belongs to the call in the log (slog's handler sees it), and ends what can
// take long: comparing, measuring, checking, copying. They stop between two steps with the cause of its end.
// What changes an SR is not stopped once it has begun: after its commit it answers.
package repository
