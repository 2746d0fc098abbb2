// Package sys makes system calls that the standard library lacks: again when a signal interrupted them, with
// an error that names the file. What they mean is the business of its callers.
package sys
