// Package attached knows which SRs are attached on this host, by the notes in /run/reflinksr, and so which directories
// and devices are theirs.
package attached
