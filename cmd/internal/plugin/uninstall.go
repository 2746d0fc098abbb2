package plugin

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/rundir"
)

// Uninstall takes the plugin directories away that are ours, complete, unless SRs are attached.
func Uninstall(args []string, out io.Writer) error {
	root, how, err := installFlags("uninstall", args)
	if err != nil {
		return err
	}
	if how.driver {
		return uninstallDriver(root, how.force, out)
	}
	unlock, err := lockRoot(root)
	if err != nil {
		return err
	}
	defer unlock()
	var targets []string
	for i := len(directories) - 1; i >= 0; i-- { // the volume plugin first
		target := filepath.Join(root, directories[i].path)
		switch is, err := ours(target); {
		case errors.Is(err, os.ErrNotExist):
			fmt.Fprintf(out, "%s was not installed\n", target)
		case err != nil:
			return err
		case !is:
			fmt.Fprintf(out, "%s is another plugin's and stays\n", target)
		default:
			targets = append(targets, target)
		}
	}
	if len(targets) > 0 && !how.force {
		if err := unused(); err != nil {
			return err
		}
	}
	for _, target := range targets {
		if err := takeAway(target, filepath.Join(root, unfinished+filepath.Base(target))); err != nil {
			return err
		}
		fmt.Fprintf(out, "removed %s\n", target)
	}
	if len(targets) > 0 {
		fmt.Fprintln(out, "the toolstack forgets a removed plugin when it is restarted: xe-toolstack-restart")
	}
	return nil
}

// takeAway removes a directory: in one step out of where it is watched, then, aside, what is in it. That needs no space.
func takeAway(target, aside string) error {
	if err := os.Rename(target, aside); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(target)); err != nil {
		return err
	}
	return os.RemoveAll(aside)
}

// itself is how this program is called on a command line: the package's is in no PATH.
func itself() string {
	if self, err := os.Executable(); err == nil {
		return self
	}
	return binary
}

// unused is an error while SRs are attached.
func unused() error {
	attached, err := noted()
	if err != nil {
		return fmt.Errorf("whether SRs are attached cannot be told: %w; %s uninstall --force if none is", err, itself())
	}
	if len(attached) > 0 {
		return fmt.Errorf("%d SRs are attached on this host, the first is %s: detach them first; %s uninstall --force takes the plugin away all the same", len(attached), attached[0], itself())
	}
	return nil
}

// noted lists the SRs that are attached by the names of their notes: also those whose note
// cannot be read, because it is damaged or because /proc is not there to do it by.
func noted() (uuids []string, err error) {
	err = rundir.EachNote(rundir.Attached, func(_ *dirfs.Dir, uuid string) error {
		uuids = append(uuids, uuid)
		return nil
	})
	return uuids, err
}
