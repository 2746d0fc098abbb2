// Package fault is what goes wrong, in words that an operator can act on: a class that programs test for,
// the thing that it is about, a sentence with cause and remedy, and the error that caused it.
//
// It imports nothing of this project, so that every other package can use it. A front end turns a class into
// its own code, in one table, and adds what only it knows: the name of the call and of its arguments.
package fault
