package serve_test

import (
	"context"
	"fmt"
	"os"
	"strings"

	"reflinksr/internal/fault"
	"reflinksr/internal/smapi"
	"reflinksr/internal/smapi/serve"
)

// A plugin of one call, which is made as the toolstack makes it: the name of the call is the
// program's, a JSON object on standard input; one value or one error on standard output.
func Example() {
	handlers := []serve.Handler{
		serve.Do(func(_ context.Context, r smapi.VolumeResize) error {
			fmt.Println(r.Key, r.NewSize)
			return nil
		}),
	}
	around := func(ctx context.Context, call string, r serve.Request, answer func(context.Context) (any, error)) (any, error) {
		fmt.Println(call, "for", r.Debug)
		return answer(ctx)
	}
	request := strings.NewReader(`{"dbg": "task 7", "sr": "tank", "key": "disk", "new_size": 4096}`)
	process := serve.Process{Argv0: "/plugins/tank/Volume.resize", Args: []string{"--json"}, Stdin: request, Stdout: os.Stdout}
	fmt.Println("exit status", process.Serve(context.Background(), handlers, around))
	// Output:
	// Volume.resize for task 7
	// disk 4096
	// null
	// exit status 0
}

// An argument that is missing is named.
func ExampleReadJSON_missing() {
	_, err := serve.ReadJSON(strings.NewReader(`{"dbg": "task 7", "sr": "tank"}`), smapi.VolumeStat{})
	fmt.Println(err)
	// Output: argument "key" is missing, it must be a string
}

// A class of errors becomes the interface's code; the sentence is for people.
func ExampleFailureOf() {
	failure := serve.FailureOf("Volume.stat", fault.Errorf(fault.ErrVolumeNotFound, "11111111-1111-4111-8111-111111111111", "no such volume"))
	fmt.Println(failure.Code, failure.Params[0])
	// Output: SR_BACKEND_FAILURE Volume_does_not_exist
}
