package datapath_test

import (
	"fmt"
	"log"

	"reflinksr/datapath"
)

// A guest gets a disk, in the order of the interface. It needs root and an attached SR, so
// it is only compiled. Each call may be repeated.
func Example() {
	const uri, domain = "loop+blkback:///srv/tank/11111111-1111-4111-8111-111111111111?sr=3f2504e0-4f89-41d3-9a0c-0305e82c3301", "5"
	if err := datapath.Open(uri, true); err != nil { // what it writes is to last
		log.Fatal(err)
	}
	paths, err := datapath.Attach(uri, domain)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(paths.Device)
	if err := datapath.Activate(uri, domain, false); err != nil { // the lease: it is the only writer
		log.Fatal(err)
	}

	// The guest runs.

	if err := datapath.Deactivate(uri, domain); err != nil { // what was buffered is durable
		log.Fatal(err)
	}
	if err := datapath.Detach(uri, domain); err != nil {
		log.Fatal(err)
	}
	if err := datapath.Close(uri); err != nil {
		log.Fatal(err)
	}
}
