package sr_test

import (
	"errors"
	"fmt"

	"reflinksr/internal/fault"
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
