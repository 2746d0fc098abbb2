// Package record reads and writes JSON objects whose members are not all known: what a newer version, another
// program or an operator put there is kept byte for byte when something else in it changes.
package record
