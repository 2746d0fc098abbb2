package main

import (
	"context"
	"crypto/rand"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"reflinksr/internal/fault"
	"reflinksr/internal/opennebula"
)

// datastores are the actions of the datastore driver.
var datastores = map[string]action{
	"cp":           dump(take),
	"mkfs":         dump(mkfs),
	"rm":           dump(rm),
	"stat":         dump(stat),
	"resize":       dump(resizeImage),
	"clone":        dump(cloneImage),
	"monitor":      dump(monitorDatastore),
	"snap_delete":  dump(ofSnapshot("delete snapshot")),
	"snap_revert":  dump(ofSnapshot("revert")),
	"snap_flatten": dump(ofSnapshot("flatten")),
	"export":       dump(export),
}

func dump(do func(ctx context.Context, d opennebula.Dump) (string, error)) action {
	return func(ctx context.Context, c opennebula.Call) (string, error) {
		d, _, err := c.Dump()
		if err != nil {
			return "", err
		}
		d.Remotes = c.Remotes
		return do(ctx, d)
	}
}

// bridge is the host that has the datastore's files: this one, unless its template has others.
func bridge(d opennebula.Dump) string {
	hosts := strings.Fields(d.Datastore.Bridges)
	for _, host := range hosts {
		if here(host) {
			return host
		}
	}
	if len(hosts) > 0 {
		return hosts[0]
	}
	return ""
}

// fresh is a place for a new image.
func fresh(d opennebula.Dump) (string, error) {
	base, err := d.Base()
	return filepath.Join(base, strings.ToLower(rand.Text())), err
}

// source is the place of the image, which must be in its datastore.
func source(d opennebula.Dump) (string, error) {
	base, err := d.Base()
	if err != nil {
		return "", err
	}
	if s := d.Image.Source; s == "" || filepath.Dir(s) != base || filepath.Clean(s) != s {
		return "", fault.Errorf(fault.ErrInvalid, "SOURCE", "the image's SOURCE %q is not in its datastore %s", fault.Shorten(s), base)
	}
	return d.Image.Source, nil
}

// foreign is a task about a file that is not a datastore's yet.
func foreign(do string, d opennebula.Dump) (task, error) {
	path := d.Image.Path
	if remote(path) {
		return fetch(d), nil
	}
	if !strings.HasPrefix(path, "/") {
		return task{}, fault.Hint(fault.Errorf(fault.ErrInvalid, "PATH", "the image's PATH %q is neither an absolute path of a file nor an address", fault.Shorten(path)),
			"give it as /path/of/a/file or https://host/image")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return task{}, err
	}
	restricted := append([]string{opennebula.Var(), opennebula.Etc(), home}, strings.Fields(d.Datastore.Restricted)...)
	return task{Do: do, From: path, Raw: d.IsFile(), Safe: strings.Fields(d.Datastore.Safe), Restricted: restricted}, nil
}

func take(ctx context.Context, d opennebula.Dump) (string, error) {
	t, err := foreign("take", d)
	if err != nil {
		return "", err
	}
	if t.To, err = fresh(d); err != nil {
		return "", err
	}
	if t.feed == nil { // else the downloader compares them with what comes, before it unpacks that
		t.MD5, t.SHA1 = d.Image.MD5, d.Image.SHA1
	}
	if driver := d.Datastore.Driver; !strings.EqualFold(d.Datastore.Convert, "no") && d.Image.Type != "1" && !t.Raw {
		t.Format = driver
	}
	format, err := t.at(ctx, bridge(d))
	return t.To + " " + format + "\n", err
}

func mkfs(ctx context.Context, d opennebula.Dump) (string, error) {
	to, err := fresh(d)
	if err != nil || d.Image.MakeFormat() == "save_as" { // cpds makes that
		return to + "\n", err
	}
	size, err := opennebula.Bytes("SIZE", d.Image.Size)
	if err != nil {
		return "", err
	}
	_, err = task{Do: "make", To: to, Format: d.Image.MakeFormat(), FS: d.Image.MakeFS(), Size: size}.at(ctx, bridge(d))
	return to + "\n", err
}

func rm(ctx context.Context, d opennebula.Dump) (string, error) {
	from, err := source(d)
	if err != nil {
		return "", err
	}
	return task{Do: "remove", From: from}.at(ctx, bridge(d))
}

// resizeImage makes an image that no guest has longer (since 7.4), and answers the size in MiB.
func resizeImage(ctx context.Context, d opennebula.Dump) (string, error) {
	from, err := source(d)
	if err != nil {
		return "", err
	}
	size, err := opennebula.Bytes("EXTRA_DATA/SIZE", d.NewSize)
	if err != nil {
		return "", err
	}
	_, err = task{Do: "resize", From: from, Format: d.Image.MakeFormat(), Size: size}.at(ctx, bridge(d))
	return fmt.Sprintln(size >> 20), err
}

func stat(ctx context.Context, d opennebula.Dump) (string, error) {
	if remote(d.Image.Path) {
		return remoteSize(ctx, d)
	}
	t, err := foreign("size", d)
	if err != nil {
		return "", err
	}
	size, err := t.at(ctx, bridge(d))
	return size + "\n", err
}

func cloneImage(ctx context.Context, d opennebula.Dump) (string, error) {
	to, err := fresh(d)
	if err != nil {
		return "", err
	}
	_, err = task{Do: "clone", From: d.Image.Path, Snapshot: -1, To: to, MayCopy: strings.EqualFold(d.Datastore.AllowCopy, "yes")}.at(ctx, bridge(d))
	return strings.TrimSpace(to+" "+d.Image.Format) + "\n", err
}

func monitorDatastore(ctx context.Context, d opennebula.Dump) (string, error) {
	base, err := d.Base()
	if err != nil {
		return "", err
	}
	return task{Do: "usage", From: base}.at(ctx, bridge(d))
}

func ofSnapshot(do string) func(context.Context, opennebula.Dump) (string, error) {
	return func(ctx context.Context, d opennebula.Dump) (string, error) {
		from, err := source(d)
		if err != nil {
			return "", err
		}
		id, err := d.Snapshot()
		if err != nil {
			return "", err
		}
		return task{Do: do, From: from, Snapshot: id}.at(ctx, bridge(d))
	}
}

func export(ctx context.Context, d opennebula.Dump) (string, error) {
	from, err := source(d)
	if err != nil {
		return "", err
	}
	sum, err := task{Do: "md5", From: from}.at(ctx, bridge(d))
	if err != nil {
		return "", err
	}
	data, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"IMPORT_INFO"`
		Source  string   `xml:"IMPORT_SOURCE"`
		MD5     string   `xml:"MD5"`
		Size    string   `xml:"SIZE"`
		Format  string   `xml:"FORMAT"`
		Dispose string   `xml:"DISPOSE"`
	}{Source: from, MD5: sum, Size: d.Image.Size, Format: d.Image.MakeFormat(), Dispose: "NO"})
	return fmt.Sprintln(string(data)), err
}
