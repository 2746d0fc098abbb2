// Package probe lists what could be an SR: the directories, disks and exports that this host sees, and the SRs that are
// there already, each as a configuration for sr.Create or sr.Attach. It changes nothing, and a disk that does not
// answer keeps nobody waiting.
package probe
