package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"reflinksr/internal/datastore"
	"reflinksr/internal/fault"
	"reflinksr/internal/opennebula"
)

// transfers are the actions of the transfer driver.
var transfers = map[string]action{
	"clone":            cloneDisk,
	"ln":               link,
	"mvds":             keep,
	"cpds":             save,
	"mv":               move,
	"delete":           remove,
	"snap_create":      ofDisk("snapshot"),
	"snap_create_live": ofDisk("snapshot"),
	"snap_revert":      ofDisk("revert"),
	"snap_delete":      ofDisk("delete snapshot"),
	"resize":           resize,
	"mkimage":          mkimage,
	"mkswap":           mkswap,
	"premigrate":       migrate,
	"postmigrate":      migrate,
	"failmigrate":      migrate,
	"prebackup":        prebackup,
	"prebackup_live":   prebackup,
	"postbackup":       postbackup,
	"postbackup_live":  postbackup,
	"monitor":          monitorSystem,
	"monitor_ds":       monitorHere,
	"restore":          restore,
}

// hostAndPath parts host:path; the host may be missing.
func hostAndPath(text string) (host, path string) {
	if i := strings.Index(text, ":"); i > 0 && !strings.Contains(text[:i], "/") {
		return text[:i], text[i+1:]
	}
	return "", text
}

// place is an argument that is a host and a path.
func place(c opennebula.Call, i int) (host, path string, err error) {
	text, err := c.Arg(i)
	host, path = hostAndPath(text)
	return host, path, err
}

// disk is an argument that is a guest's disk, and the guest's number, which is an argument as well.
func disk(c opennebula.Call, i, vm int) (host, path string, guest, id int, err error) {
	if host, path, err = place(c, i); err != nil {
		return
	}
	text, err := c.Arg(vm)
	if err != nil {
		return
	}
	if guest, err = opennebula.ParseID("the guest's number", text); err != nil {
		return
	}
	if !datastore.IsDisk(path) || filepath.Base(filepath.Dir(path)) != text {
		err = fault.Errorf(fault.ErrInvalid, path, "%q is no disk of guest %d: it would be a file disk.N in the guest's directory", fault.Shorten(path), guest)
		return
	}
	id, err = opennebula.ParseID("the disk's number", strings.TrimPrefix(filepath.Base(path), "disk."))
	return
}

// askXML asks oned about something, or, where it does not answer here, OpenNebula's command.
func askXML(ctx context.Context, kind opennebula.Kind, id int) (string, error) {
	xml, err := opennebula.Ask(ctx, kind, id)
	if err == nil || fault.Classify(err) == fault.ErrVolumeNotFound {
		return xml, err
	}
	command := "one" + string(kind)
	args := []string{"show", "-x", fmt.Sprint(id)}
	if kind == opennebula.ADatastore {
		args = append(args, "--decrypt")
	}
	out, e := exec.CommandContext(ctx, command, args...).Output() // #nosec G204 -- one of three names, and a number
	if e != nil {
		return "", fault.Hint(fault.Errorf(nil, fmt.Sprint(id), "oned could not be asked about %s %d: %w; nor could %s: %v", kind, id, err, command, e), "is oned running, and can oneadmin ask it?")
	}
	return string(out), nil
}

func ask(ctx context.Context, guest int) (*opennebula.VM, error) {
	xml, err := askXML(ctx, opennebula.AGuest, guest)
	if err != nil {
		return nil, err
	}
	return opennebula.ParseVM([]byte(xml))
}

func askDisk(ctx context.Context, guest, id int) (opennebula.Disk, error) {
	vm, err := ask(ctx, guest)
	if err != nil {
		return opennebula.Disk{}, err
	}
	return vm.Disk(id)
}

func cloneDisk(ctx context.Context, c opennebula.Call) (string, error) {
	_, from, err := place(c, 0)
	if err != nil {
		return "", err
	}
	host, to, guest, id, err := disk(c, 1, 2)
	if err != nil {
		return "", err
	}
	d, err := askDisk(ctx, guest, id)
	if err != nil {
		return "", err
	}
	size, err := d.Grown()
	if err != nil {
		return "", err
	}
	return task{Do: "clone", From: from, Snapshot: -1, To: to, Size: size, Format: d.MakeFormat(), MayCopy: strings.EqualFold(d.AllowCopy, "yes")}.at(ctx, host)
}

func link(ctx context.Context, c opennebula.Call) (string, error) {
	_, from, err := place(c, 0)
	if err != nil {
		return "", err
	}
	host, to, _, _, err := disk(c, 1, 2)
	if err != nil {
		return "", err
	}
	return task{Do: "link", From: from, To: to}.at(ctx, host)
}

func keep(ctx context.Context, c opennebula.Call) (string, error) {
	host, from, _, _, err := disk(c, 0, 2)
	if err != nil {
		return "", err
	}
	_, to, err := place(c, 1)
	if err != nil {
		return "", err
	}
	return task{Do: "keep", From: from, To: to}.at(ctx, host)
}

func save(ctx context.Context, c opennebula.Call) (string, error) {
	host, from, guest, id, err := disk(c, 0, 3)
	if err != nil {
		return "", err
	}
	_, to, err := place(c, 1)
	if err != nil {
		return "", err
	}
	snapshot, err := snapshotArg(c, 2)
	if err != nil {
		return "", err
	}
	d, err := askDisk(ctx, guest, id)
	if err != nil {
		return "", err
	}
	return task{Do: "clone", From: from, Snapshot: snapshot, To: to, MayCopy: strings.EqualFold(d.AllowCopy, "yes")}.at(ctx, host)
}

func snapshotArg(c opennebula.Call, i int) (int, error) {
	text, err := c.Arg(i)
	if err != nil {
		return 0, err
	}
	return opennebula.ParseID("the snapshot's number", text)
}

func move(ctx context.Context, c opennebula.Call) (string, error) {
	_, from, err := place(c, 0)
	if err != nil {
		return "", err
	}
	host, to, err := place(c, 1)
	if err != nil || from == to { // all hosts see the datastore at the same place
		return "", err
	}
	guest, err := c.Arg(2)
	if err != nil {
		return "", err
	}
	for _, path := range []string{from, to} {
		if datastore.IsDisk(path) {
			path = filepath.Dir(path)
		}
		if filepath.Base(path) != guest {
			return "", fault.Errorf(fault.ErrInvalid, path, "%q is not of guest %s", fault.Shorten(path), fault.Shorten(guest))
		}
	}
	return task{Do: "move", From: from, To: to}.at(ctx, host)
}

func remove(ctx context.Context, c opennebula.Call) (string, error) {
	host, path, err := place(c, 0)
	if err != nil {
		return "", err
	}
	if datastore.IsDisk(path) {
		if _, _, _, _, err := disk(c, 0, 1); err != nil {
			return "", err
		}
		return task{Do: "remove disk", From: path}.at(ctx, host)
	}
	if guest, err := c.Arg(1); err != nil || guest != filepath.Base(path) {
		return "", fault.Errorf(fault.ErrInvalid, path, "%q is not the directory of guest %s", fault.Shorten(path), fault.Shorten(guest))
	}
	return task{Do: "remove guest", From: path}.at(ctx, host)
}

var domainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,63}$`)

func ofDisk(do string) action {
	return func(ctx context.Context, c opennebula.Call) (string, error) {
		host, path, guest, _, err := disk(c, 0, 2)
		if err != nil {
			return "", err
		}
		id, err := snapshotArg(c, 1)
		if err != nil || id < 0 {
			return "", fault.Errorf(fault.ErrInvalid, "snapshot", "the snapshot's number is missing or wrong: %v", err)
		}
		t := task{Do: do, From: path, Snapshot: id}
		if c.Action == "snap_create_live" {
			vm, err := ask(ctx, guest)
			if err != nil {
				return "", err
			}
			if domainName.MatchString(vm.DeployID) {
				t.Guest = vm.DeployID
			}
		}
		return t.at(ctx, host)
	}
}

func resize(ctx context.Context, c opennebula.Call) (string, error) {
	host, path, guest, id, err := disk(c, 0, 2)
	if err != nil {
		return "", err
	}
	text, err := c.Arg(1)
	if err != nil {
		return "", err
	}
	size, err := opennebula.Bytes("the size", text)
	if err != nil {
		return "", err
	}
	vm, err := ask(ctx, guest)
	if err != nil || vm.LCMState == opennebula.HotplugResize {
		return "", err
	}
	d, err := vm.Disk(id)
	if err != nil {
		return "", err
	}
	return task{Do: "resize", From: path, Format: d.MakeFormat(), Size: size}.at(ctx, host)
}

func mkimage(ctx context.Context, c opennebula.Call) (string, error) {
	return volatile(ctx, c, 2, func(t *task) error {
		format, err := c.Arg(1)
		if err != nil {
			return err
		}
		if t.Format = format; format == "swap" {
			t.Format, t.FS = "raw", "swap"
		}
		return nil
	})
}

func mkswap(ctx context.Context, c opennebula.Call) (string, error) {
	return volatile(ctx, c, 1, func(t *task) error { t.Format, t.FS = "raw", "swap"; return nil })
}

// volatile makes a guest's disk that comes from no image.
func volatile(ctx context.Context, c opennebula.Call, at int, what func(t *task) error) (string, error) {
	host, path, guest, id, err := disk(c, at, at+1)
	if err != nil {
		return "", err
	}
	text, err := c.Arg(0)
	if err != nil {
		return "", err
	}
	t := task{Do: "make", To: path}
	if t.Size, err = opennebula.Bytes("the size", text); err != nil {
		return "", err
	}
	if err := what(&t); err != nil {
		return "", err
	}
	if t.FS == "" {
		d, err := askDisk(ctx, guest, id)
		if err != nil {
			return "", err
		}
		t.FS = d.FS
	}
	return t.at(ctx, host)
}

var driverName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$`)

// migrate has nothing to do for disks of this driver, which both hosts see. Disks of others it leaves to these, unless one of those calls.
func migrate(ctx context.Context, c opennebula.Call) (string, error) {
	if _, err := c.Arg(4); err != nil {
		return "", err
	}
	vm, text, err := c.VM()
	if err != nil || vm == nil {
		return "", err
	}
	if len(c.Args) > 5 && driverName.MatchString(c.Args[5]) && text != c.Args[5] {
		return "", nil
	}
	var done []string
	for _, d := range vm.Disks {
		if d.TM == "" || d.TM == c.Name || slices.Contains(done, d.TM) {
			continue
		}
		if !driverName.MatchString(d.TM) {
			return "", fault.Errorf(fault.ErrInvalid, d.TM, "%q is no name of a driver", fault.Shorten(d.TM))
		}
		done = append(done, d.TM)
		other := exec.CommandContext(ctx, filepath.Join(c.Remotes, "tm", d.TM, c.Action), append(slices.Clone(c.Args[:5]), c.Name)...) // #nosec G204 -- a driver beside this one
		other.Stdin = strings.NewReader(text)
		out, err := other.CombinedOutput()
		if err != nil {
			return "", fault.Errorf(nil, d.TM, "the driver %s of another disk failed in %s: %v: %s", d.TM, c.Action, err, opennebula.OneLine(fault.Shorten(string(out))))
		}
	}
	return "", nil
}

func monitorSystem(ctx context.Context, c opennebula.Call) (string, error) {
	d, id, err := c.Dump()
	if err != nil {
		return "", err
	}
	n, err := opennebula.ParseID("the datastore's number", id)
	if err != nil {
		return "", err
	}
	return task{Do: "usage", From: filepath.Join(d.Where(), fmt.Sprint(n))}.at(ctx, bridge(d))
}

func monitorHere(ctx context.Context, c opennebula.Call) (string, error) {
	path, err := c.Arg(0)
	if err != nil {
		return "", err
	}
	return task{Do: "usage", From: filepath.Clean(path)}.run(ctx)
}
