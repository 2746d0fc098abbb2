package smapi_test

import (
	"fmt"
	"os"
	"strings"

	"reflinksr/cmd/internal/smapi"
	"reflinksr/sr"
)

// One call, as the toolstack makes it: a JSON object on standard input, and one value or
// one error on standard output.
func Example() {
	params := smapi.Params("dbg sr key new_size:size")
	request, err := smapi.ReadJSON(strings.NewReader(`{"dbg": "task 7", "sr": "tank", "key": "disk", "new_size": 4096}`), params)
	if err != nil {
		smapi.Fail(os.Stdout, "Volume.resize", err)
		return
	}
	fmt.Println(request.Text("key"), request.Size("new_size"))
	smapi.Reply(os.Stdout, nil)
	// Output:
	// disk 4096
	// null
}

// An argument that is missing is named.
func ExampleReadJSON_missing() {
	_, err := smapi.ReadJSON(strings.NewReader(`{"dbg": "task 7"}`), smapi.Params("dbg key"))
	fmt.Println(err)
	// Output: argument "key" is missing, it must be a string
}

// A class of errors becomes the interface's code; the sentence is for people.
func ExampleNewFailure() {
	failure := smapi.NewFailure("Volume.stat", sr.NoVolume("11111111-1111-4111-8111-111111111111", "/srv/tank"))
	fmt.Println(failure.Code)
	// Output: SR_BACKEND_FAILURE
}
