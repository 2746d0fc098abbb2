// Package lease knows who has a volume: leases on the SR, which other hosts and later boots see; notes in
// /run/reflinksr, which are of this boot of this host; and the loop devices that the kernel has of it.
//
// Whoever is about to change what a guest may have asks here, with the volume locked.
package lease
