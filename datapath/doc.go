// Package datapath gets a volume to a guest: as a loop device on this host, for
// the kernel's xen-blkback.
//
//	open        (once)          says whether the guest's writes are to last
//	attach      per domain      the device exists; nobody may use it yet
//	activate    per domain      the lease is taken: one writer, or many readers
//	deactivate  per domain      what was buffered is durable, the lease is given back
//	detach      per domain      the device goes with its last domain; never fails
//	close       (once)          a nonpersistent disk is discarded
//
// Every call may be repeated. What is about this boot of this host (which domains
// have a device) is in /run/reflinksr, under a lock of its own, so that detach works
// when the SR does not; who may write is in the SR (package lease), for all hosts.
//
// Locks are taken in the order: this host's for the volume, the SR's, the volume's.
package datapath
