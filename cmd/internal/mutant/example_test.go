package mutant_test

import (
	"fmt"

	"reflinksr/cmd/internal/mutant"
)

// A mutant says in a sentence what it breaks and who must find that, and has the lines that
// it replaces.
func ExampleParse() {
	m, err := mutant.Parse("no_volume_lock", []byte(`Calls on one volume do not wait for each other.
finder: hammer -seeds 8
on: btrfs
-- sr/sr.go: old --
	lock, err := s.Locks.lockFile(name)
-- sr/sr.go: new --
	lock, err := (*Lock)(nil), error(nil)
`))
	fmt.Println(m.About, m.Finder, err)
	_, err = mutant.Parse("harmless", []byte("It replaces nothing.\nfinder: hammer\non: xfs\n"))
	fmt.Println(err)
	// Output:
	// Calls on one volume do not wait for each other. [hammer -seeds 8] <nil>
	// mutant harmless: want a sentence, finder or lab, on, and pairs of files
}
