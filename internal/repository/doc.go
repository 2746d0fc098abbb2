// Package repository has every use case of an SR and its volumes once: what a caller may want done, whichever
// way it asks. A wire or a tool turns what it was asked into a call of this package, and the answer or the error into
// what its callers understand; the rooms below do the parts.
//
// An SR, a volume and a disk on its way to a guest are named by an SR, a Volume and a Datapath. Keys are parsed
// here; handles and URIs by the rooms. Errors have the classes of package fault.
//
// The end of the context ends what can take long: comparing, measuring, checking, copying. They stop between
// two steps with the cause of its end. What changes an SR is not stopped once it has begun: after its commit it answers.
// The context has nothing to do with the log: what the lines of a call carry is set for the whole process by its front
// end (slog.SetDefault), for rooms log without a context.
package repository
