package volume_test

import (
	"fmt"

	"reflinksr/volume"
)

// Sizes are bytes, and rounded up to whole sectors of any kind.
func ExampleRoundUp() {
	fmt.Println(volume.RoundUp(1), volume.RoundUp(8192))
	// Output: 4096 8192
}

// The URI of a volume is all that its datapath is told.
func ExampleParseURI() {
	uri := volume.URIAt("/srv/tank", "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "11111111-1111-4111-8111-111111111111")
	fmt.Println(uri)
	handle, _, key, err := volume.ParseURI(uri)
	fmt.Println(handle, key, err)
	// Output:
	// loop+blkback:///srv/tank/11111111-1111-4111-8111-111111111111?sr=3f2504e0-4f89-41d3-9a0c-0305e82c3301
	// file:///srv/tank?uuid=3f2504e0-4f89-41d3-9a0c-0305e82c3301 11111111-1111-4111-8111-111111111111 <nil>
}
