package plugin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"reflinksr/internal/smapi/serve"
)

// Packaged is where packages have the program; installing them puts it in place as well.
const Packaged = "/usr/libexec/reflinksr/reflinksr"

// Root is where this host's toolstack looks for plugins: "" if it has none.
func Root() string {
	for _, root := range roots {
		if st, err := os.Stat(root); err == nil && st.IsDir() {
			return root
		}
	}
	return ""
}

// ErrAnother says that a directory has the name of ours and is not.
var ErrAnother = errors.New("another plugin's")

// Installed lists the programs that are installed below a root. It is an error if their directories are not complete.
func Installed(root string) (programs []string, err error) {
	for _, d := range directories {
		dir := filepath.Join(root, d.path)
		if err := complete(dir, d.calls()); err != nil {
			return nil, err
		}
		programs = append(programs, filepath.Join(dir, binary))
	}
	return programs, nil
}

// complete says what a plugin directory lacks.
func complete(dir string, calls []serve.Handler) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is not there", dir)
	}
	if _, err := os.Stat(filepath.Join(dir, binary)); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is %w", dir, ErrAnother)
	}
	_, err := os.Stat(filepath.Join(dir, server))
	for _, name := range links(calls, err == nil) {
		st, err := os.Stat(filepath.Join(dir, name))
		if err == nil && (!st.Mode().IsRegular() || st.Mode()&0o111 == 0) {
			err = errors.New("it is no program")
		}
		if err != nil {
			return fmt.Errorf("%s lacks %s: %w", dir, name, err)
		}
	}
	return nil
}
