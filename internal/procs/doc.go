// Package procs tells an operator about other processes: which one it is, and what it has open.
package procs
