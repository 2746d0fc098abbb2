package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// first is where a tester begins.
const first = `# A disk is as large as was asked for.
# (A comment over a phase is a sentence about behaviour: the headline if it fails.)
sr
volume VOL 16MiB
answer .virtual_size 16777216

# What a guest writes to it is there when it is attached again.
plug $VOL
fill $VOL 0 1MiB some-seed
unplug $VOL
sum $VOL
same $VOL

# A disk that is not there is refused by name, and nothing changes.
! call Volume.stat '{"sr":"$SR","key":"11111111-2222-4333-8444-555555555555"}'
refused Volume_does_not_exist 11111111-2222-4333-8444-555555555555

# Nothing is left behind.
call Volume.destroy '{"sr":"$SR","key":"$VOL"}'
leak
`

// create is srtest new.
func (o *options) create() error {
	path := strings.TrimSuffix(o.scripts[0], ".txtar") + ".txtar"
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, first)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	fmt.Fprintf(o.out, "wrote %s; run it with: srtest run %s\n", path, path)
	return nil
}
