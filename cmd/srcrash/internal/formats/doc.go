// Package formats holds every later version of the plugin to the SRs that earlier ones
// have written: testdata/formats/<release> has them as text, and the package's tests put
// each on a filesystem, use it, and look what is left of it.
package formats
