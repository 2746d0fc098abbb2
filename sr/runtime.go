package sr

// RuntimeDir holds what is about this boot of this host: which SRs are attached
// (sr/) and which volumes have a device (volume/). It is on tmpfs and gone with
// the boot, as are the things it speaks of.
const RuntimeDir = "/run/reflinksr"

// Runtime opens a subdirectory of RuntimeDir, made if absent.
func Runtime(name string) (*Dir, error) {
	run, err := OpenDir("/run")
	if err != nil {
		return nil, err
	}
	defer run.Close()
	if err := run.mkdir("reflinksr"); err != nil {
		return nil, err
	}
	top, err := OpenDir(RuntimeDir) // not by Sub: it may be a filesystem of its own
	if err != nil {
		return nil, err
	}
	defer top.Close()
	if err := setMode(top.f, 0o700); err != nil {
		return nil, err
	}
	return top.Mkdir(name)
}

// LookRuntime is Runtime for who only reads: it makes nothing, and is os.ErrNotExist
// if nothing was ever noted there.
func LookRuntime(name string) (*Dir, error) {
	run, err := OpenDir("/run")
	if err != nil {
		return nil, err
	}
	defer run.Close()
	top, err := run.Sub("reflinksr")
	if err != nil {
		return nil, err
	}
	defer top.Close()
	return top.Sub(name)
}

// Publish gives the file name the contents data, atomically but not durably:
// for directories that do not outlive the boot.
func (d *Dir) Publish(name string, data []byte) error {
	temp := name + ".new"
	if err := d.Remove(temp); err != nil {
		return err
	}
	f, err := d.Create(temp)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Close()
	} else {
		f.Close()
	}
	if err == nil {
		err = d.Rename(temp, d, name)
	}
	if err != nil {
		d.Remove(temp)
	}
	return err
}

// Lock takes an exclusive lock on the file name in d; what is the noun for the error.
func (d *Dir) Lock(name, what string) (*Lock, error) {
	return d.lockFile(name, what, Exclusive, false)
}
