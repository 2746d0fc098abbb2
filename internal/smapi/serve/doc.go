// Package serve is a plugin's end of the toolstack's interface: a process that answers one
// call. It reads the name of the call, one request, and writes one reply or one error; it
// knows nothing of storage. Which errors become which of the interface's stands in codes.go.
package serve
