package fault_test

import (
	"fmt"

	"reflinksr/internal/fault"
)

// An error is a sentence for an operator, and a class for the program.
func ExampleErrorf() {
	err := fmt.Errorf("taking the snapshot: %w", fault.Errorf(fault.ErrNoSpace, "/srv/tank", "no space left in %s: destroy a volume or grow the filesystem", "/srv/tank"))
	fmt.Println(err)
	fmt.Println(fault.Classify(err) == fault.ErrNoSpace)
	// Output:
	// taking the snapshot: no space left in /srv/tank: destroy a volume or grow the filesystem
	// true
}
