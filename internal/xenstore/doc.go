// Package xenstore reads xenstore by its wire protocol (Xen's docs/misc/xenstore.txt and xen/include/public/io/xs_wire.h), over
// the daemon's socket or the kernel's device: a few values and directories, and whether something below a path has changed.
//
// What is in xenstore may have been written by a guest. Answers are bounded in size, and are bytes to be parsed.
package xenstore
