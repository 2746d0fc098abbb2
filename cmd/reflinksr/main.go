// The runtime would read files of /proc and of cgroups at every start, to find out whether fewer processors are to be used
// than there are: a call is over before that counts.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command reflinksr is the storage plugin: called by the name of a SMAPIv3 call
// (through the links that its install subcommand makes) it is that call.
package main

import (
	"os"

	"reflinksr/cmd/internal/plugin"
)

func main() {
	if plugin.IsCall(os.Args[0]) {
		os.Exit(plugin.Main())
	}
	os.Exit(plugin.Command(os.Args[1:]))
}
