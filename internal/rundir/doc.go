// Package rundir is /run/reflinksr: what is about this boot of this host.
package rundir
