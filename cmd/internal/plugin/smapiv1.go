package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/repository"
)

// Where the toolstack's older interface has its drivers, and which of them it allows: paths below a root.
const (
	driversDir    = "opt/xensource/sm"
	driver        = "ReflinkSR"
	driverProgram = "reflinksr-smapiv1" // that is installed so
	xapiConf      = "etc/xapi.conf"
	xapiConfDir   = "etc/xapi.conf.d"
	allowedFile   = xapiConfDir + "/99-reflinksr.conf"
	allowed       = "sm-plugins"
	driverType    = "reflink"
)

// ownList begins the file that allows the driver.
const ownList = "# Made by reflinksr install --smapiv1: of several lists of allowed drivers xapi takes the last.\n"

// installDriver puts the driver for SMAPIv1 in place below root, and allows it.
func installDriver(root string, out io.Writer) error {
	unix.Umask(0o022) // what the toolstack must be able to read
	dir := filepath.Join(root, driversDir)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return fmt.Errorf("%s is not there: this is no host whose toolstack speaks SMAPIv1", dir)
	}
	for _, r := range roots {
		if is, err := ours(filepath.Join(root, r, directories[1].path)); err == nil && is {
			return fmt.Errorf("the plugin for SMAPIv3 is installed in %s: xapi can have one driver of the type %s; take that away first: %s uninstall", filepath.Join(root, r), driverType, itself())
		}
	}
	self, _, err := ourselves()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	program, err := os.ReadFile(filepath.Join(filepath.Dir(self), driverProgram)) // #nosec G304 -- it came with this program
	if err != nil {
		return fmt.Errorf("the driver for SMAPIv1 must be beside this program: %w", err)
	}
	if program, err = withTrailer(program); err != nil {
		return err
	}
	target := filepath.Join(dir, driver)
	if is, err := isDriver(target); err != nil || !is {
		return errors.Join(err, fmt.Errorf("%s is another project's: remove that first", target))
	}
	list, where, err := allowedDrivers(root)
	if err != nil {
		return err
	}
	file, listed := filepath.Join(root, allowedFile), slices.Contains(list, driverType) || slices.Contains(list, "*")
	if !listed && where > file {
		return fmt.Errorf("%s has a list of allowed drivers that counts after ours: add %s to that", where, driverType)
	}
	// First what it needs: xapi reads the list when it starts, and takes no notice of a name without a driver.
	if err := replaceFile(target, program, 0o755); err != nil {
		return err
	}
	fmt.Fprintln(out, "installed", target)
	if !listed {
		text := ownList + allowed + "=" + strings.Join(append(list, driverType), " ") + "\n"
		if err := makeDir(filepath.Dir(file)); err != nil {
			return err
		}
		if err := replaceFile(file, []byte(text), 0o644); err != nil {
			return err
		}
		fmt.Fprintln(out, "installed", file)
	}
	fmt.Fprintln(out, "the toolstack takes a new driver into use when it is restarted: xe-toolstack-restart")
	return nil
}

// uninstallDriver takes both away again, unless SRs are attached by it.
func uninstallDriver(root string, force bool, out io.Writer) error {
	target := filepath.Join(root, driversDir, driver)
	if _, err := os.Lstat(target); errors.Is(err, os.ErrNotExist) {
		fmt.Fprintf(out, "%s was not installed\n", target)
	} else if is, err := isDriver(target); err != nil || !is {
		return errors.Join(err, fmt.Errorf("%s is another project's and stays", target))
	} else {
		if err := driverUnused(force); err != nil {
			return err
		}
		if err := removeFile(target); err != nil {
			return err
		}
		fmt.Fprintln(out, "removed", target)
	}
	file := filepath.Join(root, allowedFile)
	text, err := os.ReadFile(file) // #nosec G304 -- below the root
	if err == nil && bytes.HasPrefix(text, []byte(ownList)) {
		if err := removeFile(file); err != nil {
			return err
		}
		fmt.Fprintln(out, "removed", file)
	}
	fmt.Fprintln(out, "the toolstack forgets a removed driver when it is restarted: xe-toolstack-restart")
	return nil
}

// driverUnused is an error while SRs are attached by the driver.
func driverUnused(force bool) error {
	if force {
		return nil
	}
	uuids, err := noted()
	if err != nil {
		return fmt.Errorf("whether SRs are attached cannot be told: %w; %s uninstall --smapiv1 --force if none is", err, itself())
	}
	known, err := repository.KnownSRs(context.Background())
	if err != nil {
		return err
	}
	for _, uuid := range uuids {
		// One of which nobody can tell may be.
		elsewise := slices.ContainsFunc(known, func(k repository.Known) bool { return k.UUID == uuid && k.Interface != repository.SMAPIv1 })
		if !elsewise {
			return fmt.Errorf("SR %s is attached on this host: detach it first; %s uninstall --smapiv1 --force takes the driver away all the same", uuid, itself())
		}
	}
	return nil
}

// isDriver says whether a file is this project's driver, or none is there.
func isDriver(path string) (bool, error) {
	data, err := os.ReadFile(path) // #nosec G304 -- below the root
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	// The Go linker writes the path of the program that it is into each.
	return bytes.Contains(data, []byte("reflinksr/cmd/"+driverProgram)), err
}

// allowedDrivers is the list of drivers that xapi allows, but for what is in our own file, and the file where it is, which is the last of them.
func allowedDrivers(root string) (list []string, where string, err error) {
	files, err := filepath.Glob(filepath.Join(root, xapiConfDir, "*.conf"))
	if err != nil {
		return nil, "", err
	}
	for _, file := range append([]string{filepath.Join(root, xapiConf)}, files...) { // Glob sorts
		if file == filepath.Join(root, allowedFile) {
			continue
		}
		data, err := os.ReadFile(file) // #nosec G304 -- below the root
		if err != nil {
			return nil, "", fmt.Errorf("reading which drivers xapi allows: %w", err)
		}
		for _, line := range strings.Split(string(data), "\n") {
			name, value, is := strings.Cut(line, "=")
			if is && strings.TrimSpace(name) == allowed {
				list, where = strings.Fields(strings.Trim(strings.TrimSpace(value), `"`)), file
			}
		}
	}
	if where == "" {
		return nil, "", fmt.Errorf("neither %s nor a file in %s has a list of allowed drivers (%s=), to which %s could be added", filepath.Join(root, xapiConf), filepath.Join(root, xapiConfDir), allowed, driverType)
	}
	return list, where, nil
}

// replaceFile writes a file as a whole, durably.
func replaceFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), unfinished) // xapi looks for names that end in SR
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
