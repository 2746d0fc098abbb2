// Package rrd speaks to xcp-rrdd, the daemon behind the toolstack's graphs: a plugin's calls by XML-RPC, and the file in shared
// memory from which the daemon takes what is measured, by version 2 of its plugin protocol (xapi-project/xen-api,
// doc/content/design/plugin-protocol-v2.md).
//
// It knows how graphs of disks are called, and no storage.
package rrd
