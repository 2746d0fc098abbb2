// Package overwrite decides whether a disk or a file may be written over: it is blank, or left over of ours, and nobody
// uses it. What cannot be read or is not known is taken for something.
package overwrite
