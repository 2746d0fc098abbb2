// Command look is a plugin's program that answers what it sees of how it was started.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
)

func main() {
	wd, _ := os.Getwd()
	request, _ := io.ReadAll(os.Stdin)
	fmt.Printf("argv %q\nwd %s\nrequest %s\n", os.Args, wd, request)
	exe, _ := os.Executable()
	dir := filepath.Dir(exe)
	fmt.Println("exe", filepath.Base(filepath.Dir(dir)), filepath.Base(dir), filepath.Base(exe))
	for _, dir := range []string{filepath.Dir(os.Args[0]), dir} {
		text, err := os.ReadFile(filepath.Join(dir, "share", "text"))
		fmt.Printf("share %q %v\n", text, err != nil)
	}
	real, err := filepath.EvalSymlinks(os.Args[0])
	fmt.Println("real", real, err)
	env := os.Environ()
	sort.Strings(env)
	fmt.Printf("%q\n", env)
}
