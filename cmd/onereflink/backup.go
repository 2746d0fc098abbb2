package main

import (
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"

	"reflinksr/internal/datastore"
	"reflinksr/internal/fault"
	"reflinksr/internal/opennebula"
)

// backupDir is where a guest's backup is put, for the backup datastore's driver to fetch it.
func backupDir(dir, guest string) string {
	if base := os.Getenv("BACKUP_BASE_PATH"); base != "" {
		return filepath.Join(base, guest, "backup")
	}
	return filepath.Join(dir, "backup")
}

// guestArgs are the host, the directory and the number of the guest in the arguments of an action of backups.
func guestArgs(c opennebula.Call) (host, dir, guest string, err error) {
	if host, dir, err = place(c, 0); err != nil {
		return
	}
	if guest, err = c.Arg(4); err == nil && filepath.Base(dir) != guest {
		err = fault.Errorf(fault.ErrInvalid, dir, "%q is not the directory of guest %s", fault.Shorten(dir), fault.Shorten(guest))
	}
	return
}

func prebackup(ctx context.Context, c opennebula.Call) (string, error) {
	host, dir, guest, err := guestArgs(c)
	if err != nil {
		return "", err
	}
	list, err := c.Arg(1)
	if err != nil {
		return "", err
	}
	vm, text, err := c.VM()
	if err != nil {
		return "", err
	}
	if vm == nil {
		return "", fault.Errorf(fault.ErrInvalid, "VM", "nothing on standard input says how guest %s is to be backed up", guest)
	}
	n, err := vm.Backup.Increment()
	if err != nil {
		return "", err
	}
	t := task{Do: "backup", From: dir, To: backupDir(dir, guest), Data: []byte(base64.StdEncoding.EncodeToString([]byte(text)) + "\n")}
	if strings.EqualFold(vm.Backup.Interactive, "yes") {
		if t.Interactive, err = interactively(c); err != nil {
			return "", err
		}
	}
	if deploy, err := c.Arg(2); err == nil && c.Action == "prebackup_live" && domainName.MatchString(deploy) && vm.Backup.Freeze != "NONE" {
		t.Guest = deploy
	}
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return r == ':' }) {
		id, err := opennebula.ParseID("the disk's number", word)
		if err != nil {
			return "", err
		}
		d, err := vm.Disk(id)
		if err != nil {
			return "", err
		}
		if d.MakeFormat() != "raw" && n > 0 {
			return "", fault.Hint(fault.Errorf(fault.ErrInvalid, word, "disk %d is a %s, and only of raw disks increments can be taken", id, d.MakeFormat()), "set the backup's MODE to FULL")
		}
		t.Disks = append(t.Disks, datastore.Backup{Disk: id, Increment: n, Format: d.MakeFormat()})
	}
	return t.at(ctx, host)
}

// interactively reads the numbers of the guest and of its datastore.
func interactively(c opennebula.Call) (*interactive, error) {
	i := new(interactive)
	for at, id := range map[int]*int{4: &i.VM, 5: &i.Datastore} {
		text, err := c.Arg(at)
		if err != nil {
			return nil, err
		}
		if *id, err = opennebula.ParseID("the number of the guest or of its datastore", text); err != nil {
			return nil, err
		}
	}
	return i, nil
}

func postbackup(ctx context.Context, c opennebula.Call) (string, error) {
	host, dir, guest, err := guestArgs(c)
	if err != nil {
		return "", err
	}
	return task{Do: "remove backup", To: backupDir(dir, guest)}.at(ctx, host)
}

// backup takes the moment of all disks, with the guest's filesystems held still for that alone, and then writes them.
func backup(ctx context.Context, t task) error {
	thaw := freeze(t.Guest)
	moments, err := datastore.Moments(ctx, t.From, t.Disks)
	thaw()
	defer moments.Close()
	if err != nil {
		return err
	}
	if t.Interactive != nil {
		return t.Interactive.run(ctx, moments, t)
	}
	return moments.Write(ctx, t.To, t.Data)
}
