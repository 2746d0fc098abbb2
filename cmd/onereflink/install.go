package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// driver is the name by which OpenNebula knows this one.
const driver = "reflink"

// self is where the program itself is, below the drivers: onehost sync takes it to all hosts with them.
const self = "tm/" + driver + "/onereflink"

// links are the actions' names below the drivers' directory, with what each is a link to. An ISO of a guest's context OpenNebula's own action makes.
func links() map[string]string {
	all := map[string]string{"tm/" + driver + "/context": "../common/context"}
	for name := range datastores {
		all["datastore/"+driver+"/"+name] = "../../" + self
	}
	for name := range transfers {
		all["tm/"+driver+"/"+name] = "onereflink"
	}
	return all
}

// install puts the program and its links below a directory of drivers; what is there of an earlier installation is replaced.
func install(remotes string) error {
	if st, err := os.Stat(remotes); err != nil || !st.IsDir() {
		return fmt.Errorf("%s is no directory of OpenNebula's drivers", remotes)
	}
	defer unix.Umask(unix.Umask(0o022)) // programs are for everybody
	for _, dir := range []string{"datastore", "tm"} {
		err := os.MkdirAll(filepath.Join(remotes, dir, driver), 0o755) // #nosec G301 -- programs
		if err != nil {
			return err
		}
	}
	if err := copySelf(filepath.Join(remotes, self)); err != nil {
		return err
	}
	all := links()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		path := filepath.Join(remotes, name)
		if there, err := os.Readlink(path); err == nil && there == all[name] {
			continue
		}
		if err := os.Symlink(all[name], path+".new"); err != nil && !os.IsExist(err) {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}

// copySelf puts this program in a place, whole or not at all: an action may be under way.
func copySelf(path string) error {
	in, err := os.Open("/proc/self/exe")
	if os.IsNotExist(err) && filepath.IsAbs(os.Args[0]) { // an image that is being built has no /proc
		in, err = os.Open(os.Args[0]) // #nosec G304 G703 -- this program, by the path that it was called by
	}
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755) // #nosec G302 G304 -- a program, in the directory that was named
	if err != nil {
		return err
	}
	defer os.Remove(path + ".new")
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Chmod(0o755) // #nosec G302 -- the same
	}
	if err == nil {
		err = out.Sync()
	}
	if e := out.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// uninstall removes what install puts there, and its directories if they are empty then.
func uninstall(remotes string) error {
	names := append(slices.Sorted(maps.Keys(links())), self)
	for _, name := range append(names, "datastore/"+driver, "tm/"+driver) {
		if err := os.Remove(filepath.Join(remotes, name)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}
