package sr_test

import (
	"errors"
	"fmt"

	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/sr"
)

// What is no canonical UUID names no volume, and never becomes a path.
func ExampleParseKey() {
	key, err := sr.ParseKey("3f2504e0-4f89-41d3-9a0c-0305e82c3301")
	fmt.Println(key, err)
	_, err = sr.ParseKey("../../etc/passwd")
	fmt.Println(errors.Is(err, fault.ErrVolumeNotFound))
	// Output:
	// 3f2504e0-4f89-41d3-9a0c-0305e82c3301 <nil>
	// true
}

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
