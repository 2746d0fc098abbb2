// Package invoke is the toolstack's end of its interface: it makes a call as the toolstack
// does, in a process of the plugin's executable, with one JSON object on standard input, and
// tells the answer from an error and both from what is neither.
//
// Ask and Plugin.Do make a call of a request; Command is one process of any bytes, for who
// wants to send nonsense, to wrap the process, or to look at what it printed.
package invoke
