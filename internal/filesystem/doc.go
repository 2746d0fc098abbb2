// Package filesystem tells of the filesystem of a directory what an SR has to know: which one it is, whether it can share
// blocks (by trying), whether it can be written to and what keeps it from that, and how much room there is under all
// quotas that apply.
package filesystem
