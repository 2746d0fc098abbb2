package scripts_test

import (
	"fmt"
	"strings"
	"testing"

	"reflinksr/scripts"
)

// Scenarios as tests of a plugin of one's own: Test is called from a test function, as
// root. It is only compiled here.
func Example() {
	test := func(t *testing.T) {
		scripts.Test(t, scripts.Config{
			Volume:   "/usr/libexec/xapi-storage-script/volume/org.example.mine",
			Datapath: []string{"/usr/libexec/xapi-storage-script/datapath"},
			FS:       "xfs",
		}, []string{"testdata/snapshot_of_mine.txtar"})
	}
	_ = test
}

// Lengths in scenarios have units.
func ExampleParseBytes() {
	n, err := scripts.ParseBytes("16MiB")
	fmt.Println(n, err)
	// Output: 16777216 <nil>
}

// Each verb of the language explains itself.
func ExampleUsage() {
	text, err := scripts.Usage("call")
	fmt.Println(strings.HasPrefix(text, "[!] call "), err)
	// Output: true <nil>
}
