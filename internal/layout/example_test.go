package layout_test

import (
	"fmt"

	"reflinksr/internal/layout"
)

// A handle has the SR's UUID, so that another SR at the same path is not taken for it.
func ExampleHandle() {
	handle := layout.Handle("/srv/tank", "3f2504e0-4f89-41d3-9a0c-0305e82c3301")
	fmt.Println(handle)
	path, uuid, err := layout.ParseHandle(handle)
	fmt.Println(path, uuid, err)
	// Output:
	// file:///srv/tank?uuid=3f2504e0-4f89-41d3-9a0c-0305e82c3301
	// /srv/tank 3f2504e0-4f89-41d3-9a0c-0305e82c3301 <nil>
}
