package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"reflinksr/internal/datastore"
	"reflinksr/internal/fault"
	"reflinksr/internal/opennebula"
)

// restore gives a guest's disks what a backup has of them: the backup datastore's driver lists it, OpenNebula's downloader fetches it here, put together from its
// increments, and it goes to the host with the task.
func restore(ctx context.Context, c opennebula.Call) (string, error) {
	host, dir, err := place(c, 0)
	if err != nil {
		return "", err
	}
	var ids [4]int
	for i, name := range []string{"the guest's number", "the backup's number", "the increment's number", "the disk's number"} {
		text, err := c.Arg(i + 1)
		if err != nil {
			return "", err
		}
		if ids[i], err = opennebula.ParseID(name, text); err != nil {
			return "", err
		}
	}
	guest, backup, increment, disk := ids[0], ids[1], ids[2], ids[3]
	if filepath.Base(dir) != fmt.Sprint(guest) {
		return "", fault.Errorf(fault.ErrInvalid, dir, "%q is not the directory of guest %d", fault.Shorten(dir), guest)
	}
	text, err := askXML(ctx, opennebula.AGuest, guest)
	if err != nil {
		return "", err
	}
	vm, err := opennebula.ParseVM([]byte(text))
	if err != nil {
		return "", err
	}
	urls, err := listBackup(ctx, c.Remotes, text, backup, increment)
	if err != nil {
		return "", err
	}
	t := task{Do: "restore", From: dir}
	var from []string
	for _, id := range slices.Sorted(maps.Keys(urls)) {
		if disk >= 0 && id != disk {
			continue
		}
		d, err := vm.Disk(id)
		if err != nil {
			return "", err
		}
		if d.TM != "" && d.TM != c.Name {
			return "", fault.Errorf(fault.ErrInvalid, d.TM, "disk %d is one of the driver %s, which has to restore it", id, fault.Shorten(d.TM))
		}
		r := datastore.Restored{Disk: id, Format: d.MakeFormat()}
		if r.Size, err = d.Bytes(); err != nil {
			return "", err
		}
		if strings.EqualFold(d.Persistent, "yes") {
			r.Source = d.Source
		}
		t.Restored = append(t.Restored, r)
		from = append(from, urls[id])
	}
	if len(from) == 0 {
		return "", fault.Errorf(fault.ErrVolumeNotFound, fmt.Sprint(backup), "the backup %d has no such disk: it has %v", backup, slices.Sorted(maps.Keys(urls)))
	}
	t.feed = func(ctx context.Context, to *opennebula.Parts) error {
		for _, url := range from {
			if err := send(ctx, c.Remotes, url, []string{"--nodecomp"}, to); err != nil {
				return err
			}
		}
		return nil
	}
	return t.at(ctx, host)
}

var declaration = regexp.MustCompile(`^\s*<\?xml[^>]*\?>`)

// listBackup has the driver of a backup's datastore tell the address of each disk in it.
func listBackup(ctx context.Context, remotes, guest string, backup, increment int) (map[int]string, error) {
	image, err := askXML(ctx, opennebula.AnImage, backup)
	if err != nil {
		return nil, err
	}
	var where struct {
		Datastore string `xml:"DATASTORE_ID"`
	}
	if err := xml.Unmarshal([]byte(image), &where); err != nil {
		return nil, fault.Errorf(fault.ErrInvalid, "IMAGE", "oned's description of image %d cannot be read: %w", backup, err)
	}
	id, err := opennebula.ParseID("DATASTORE_ID", where.Datastore)
	if err != nil {
		return nil, err
	}
	datastore, err := askXML(ctx, opennebula.ADatastore, id)
	if err != nil {
		return nil, err
	}
	var how struct {
		Driver string `xml:"DS_MAD"`
	}
	if err := xml.Unmarshal([]byte(datastore), &how); err != nil || !driverName.MatchString(how.Driver) {
		return nil, fault.Errorf(fault.ErrInvalid, "DS_MAD", "datastore %d has the driver %q, which is no name of one (%v)", id, fault.Shorten(how.Driver), err)
	}
	var all strings.Builder
	all.WriteString("<DS_DRIVER_ACTION_DATA>\n")
	for _, part := range []string{datastore, guest, image} {
		all.WriteString(declaration.ReplaceAllString(part, "") + "\n")
	}
	all.WriteString("</DS_DRIVER_ACTION_DATA>\n")
	ls := exec.CommandContext(ctx, filepath.Join(remotes, "datastore", how.Driver, "ls"), "-i", fmt.Sprint(increment)) // #nosec G204 -- a driver beside this one
	errs := tail{}
	var out bytes.Buffer
	ls.Stdin, ls.Stdout, ls.Stderr = strings.NewReader(all.String()), &out, &errs
	if err := ls.Run(); err != nil {
		return nil, fault.Errorf(nil, how.Driver, "the driver %s does not list the backup %d: %v: %s", how.Driver, backup, err, opennebula.OneLine(errs.String()))
	}
	urls := map[int]string{}
	if err := json.NewDecoder(io.LimitReader(&out, 1<<20)).Decode(&urls); err != nil {
		return nil, fault.Errorf(fault.ErrInvalid, how.Driver, "what the driver %s lists of the backup %d cannot be read: %w", how.Driver, backup, err)
	}
	return urls, nil
}
