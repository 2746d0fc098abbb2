// Package volume is a disk image in an SR: create, stat, list, set, resize, compact, destroy.
//
// A volume is two files, its data (raw, sparse, <uuid>) and its record (JSON,
// <uuid>.inf). The length of the data file is the truth about the virtual size;
// the record repeats it for other readers of the simple file SR's layout. The
// record's name in the SR's directory is what makes the volume exist: creating
// one ends, and destroying one begins, with a rename of that file.
//
// Readers take no lock and see each volume before or after any change, never
// between. Writers hold the SR's lock (shared) and the volume's.
package volume
