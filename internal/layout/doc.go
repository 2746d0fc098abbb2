// Package layout is what the directory of an SR has: the names of its files, its marker sr.json, and the handle by which
// callers name it. docs/format.md describes all of it.
package layout
