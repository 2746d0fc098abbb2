// Package owned ends what is provably the caller's, on a machine where others work as well.
//
// A loop device is known by a number, and so is a process; as soon as one ends, its number
// can be somebody else's. Whoever lists numbers, and acts on them afterwards, acts on
// other people's now and then. Here a number is held first, and what it stands for is
// looked at while it cannot change.
package owned
