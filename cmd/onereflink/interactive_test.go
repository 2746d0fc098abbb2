package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/opennebula"
	"reflinksr/scripts/tests"
)

// bex is a stand-in for OneBEX and for the backup program behind it, which reads with libnbd's tool and QEMU's.
type bex struct {
	t      *testing.T
	mu     sync.Mutex
	status string
	ok     bool
	hangs  bool // the backup program reads nothing
	ended  chan bool
	copies map[string][]byte // what it has of each disk
	modes  []string
}

func (b *bex) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/":
		fmt.Fprint(w, `{"NAME": "OneBEX"}`)
	case r.Method == http.MethodPost && r.URL.Path == "/export":
		var what struct {
			VM  int    `json:"VM_ID"`
			DS  int    `json:"DS_ID"`
			Dir string `json:"BACKUP_DIR"`
		}
		exports := map[string]opennebula.Export{}
		data, err := []byte(nil), json.NewDecoder(r.Body).Decode(&what)
		if err == nil {
			data, err = os.ReadFile(filepath.Join(what.Dir, "interactive_exports.json"))
		}
		if err == nil {
			err = json.Unmarshal(data, &exports)
		}
		if err != nil || what.VM != 42 || what.DS != 100 {
			http.Error(w, fmt.Sprintf("%v of %+v", err, what), http.StatusNotFound)
			return
		}
		b.status = "executing"
		if !b.hangs {
			go b.read(exports)
		}
		fmt.Fprint(w, `{"TRANSFERS": []}`)
	case r.Method == http.MethodGet && r.URL.Path == "/status" && r.URL.Query().Get("VM_ID") == "42":
		json.NewEncoder(w).Encode(map[string]any{"VM_ID": 42, "STATUS": b.status, "SUCCESS": b.ok})
	case r.Method == http.MethodPost && r.URL.Path == "/vms/42/cancel":
		b.ended <- true
		fmt.Fprint(w, `{}`)
	default:
		http.NotFound(w, r)
	}
}

// read reads all disks, of those with a map what has changed.
func (b *bex) read(exports map[string]opennebula.Export) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, e := range exports {
		if err := b.disk(id, e); err != nil {
			b.t.Errorf("disk %s: %v", id, err)
		}
	}
	b.status = "finished"
}

func (b *bex) disk(id string, e opennebula.Export) error {
	b.modes = append(b.modes, e.Mode)
	if e.Exporter != "nbd" || e.Format != "raw" || e.Size != 8 {
		return fmt.Errorf("it is exported as %+v", e)
	}
	which := "--map"
	if e.Map != "" {
		which += "=" + e.Map
	}
	out, err := exec.Command("nbdinfo", e.Source, "--json", which).Output()
	if err != nil {
		return fmt.Errorf("nbdinfo: %w", err)
	}
	var extents []struct {
		Offset, Length int64
		Description    string
	}
	if err := json.Unmarshal(out, &extents); err != nil {
		return err
	}
	file := filepath.Join(b.t.TempDir(), "read")
	if out, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", "raw", e.Source, file).CombinedOutput(); err != nil {
		return fmt.Errorf("qemu-img: %w: %s", err, out)
	}
	all, err := os.ReadFile(file)
	if err != nil || e.Mode == "full" {
		b.copies[id] = all
		return err
	}
	changed := int64(0)
	for _, x := range extents {
		if x.Description == "dirty" {
			copy(b.copies[id][x.Offset:], all[x.Offset:x.Offset+x.Length])
			changed += x.Length
		}
	}
	if changed > 1<<20 {
		return fmt.Errorf("%d bytes have changed", changed)
	}
	return nil
}

// Another program reads a backup by OneBEX: a full one, and then what has changed; of a running disk it reads the moment of the backup. One that fails or is
// ended leaves nothing.
func TestInteractiveBackup(t *testing.T) {
	tests.Root(t, "mounting a filesystem")
	for _, name := range []string{"nbdinfo", "qemu-img"} {
		if _, err := exec.LookPath(name); err != nil {
			tests.Skip(t, err)
		}
	}
	location := cloud(t, "xfs", 512<<20)
	remotes := installed(t)
	b := &bex{t: t, ok: true, ended: make(chan bool, 1), copies: map[string][]byte{}}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(remotes, "etc/onebex"), 0o755); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(remotes, "etc/onebex/onebex-server.conf")
	if err := os.WriteFile(conf, []byte("---\n:host: 0.0.0.0 # all\n:port: "+address.Port()+"\n:onebex_timeout: 1800\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	guest := filepath.Join(location, "100", "42")
	if err := os.Mkdir(guest, 0o755); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(guest, "disk.0")
	holds := bytes.Repeat([]byte("12345678"), 1<<20)
	if err := os.WriteFile(disk, holds, 0o644); err != nil {
		t.Fatal(err)
	}
	backup := func(mode, last string) *exec.Cmd {
		c := exec.Command(filepath.Join(remotes, "tm/reflink/prebackup_live"), "localhost:"+guest, "0:", "one-42", "7", "42", "100")
		c.Stdin = strings.NewReader("<VM><ID>42</ID><TEMPLATE><DISK><DISK_ID>0</DISK_ID></DISK></TEMPLATE><BACKUPS><BACKUP_CONFIG><MODE>" + mode + "</MODE><INTERACTIVE>YES</INTERACTIVE><FS_FREEZE>NONE</FS_FREEZE><LAST_INCREMENT_ID>" + last + "</LAST_INCREMENT_ID></BACKUP_CONFIG></BACKUPS></VM>")
		return c
	}
	for _, step := range []struct{ mode, last, exported string }{{"FULL", "-1", "full"}, {"INCREMENT", "-1", "full"}, {"INCREMENT", "0", "incremental"}, {"INCREMENT", "1", "incremental"}} {
		copy(holds[4<<20+len(b.modes)*100_000:], "what has changed before "+step.mode+step.last)
		f, err := os.OpenFile(disk, os.O_RDWR, 0)
		if err == nil {
			_, err = f.WriteAt(holds[4<<20:5<<20], 4<<20)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		if out, err := backup(step.mode, step.last).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if !bytes.Equal(b.copies["0"], holds) || b.modes[len(b.modes)-1] != step.exported {
			t.Errorf("%+v: the copy is not what the disk held (%v)", step, b.modes)
		}
	}
	if _, err := os.Stat(filepath.Join(guest, "backup/vm.xml")); err != nil {
		t.Error(err)
	}
	b.ok = false
	if out, err := backup("INCREMENT", "2").CombinedOutput(); err == nil || !bytes.Contains(out, []byte("has failed")) {
		t.Errorf("%v: %s", err, out)
	}
	b.ok, b.hangs = true, true
	c := backup("INCREMENT", "2")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if b.mu.Lock(); b.status == "executing" {
			b.mu.Unlock()
			break
		}
		b.mu.Unlock()
	}
	c.Process.Signal(unix.SIGTERM)
	<-b.ended
	if err := c.Wait(); err == nil {
		t.Error("it was ended and succeeds")
	}
	if _, err := os.Stat(filepath.Join(guest, "backup")); !os.IsNotExist(err) {
		t.Errorf("something is left: %v", err)
	}
	b.hangs, b.status = false, ""
	if out, err := backup("INCREMENT", "2").CombinedOutput(); err != nil || !bytes.Equal(b.copies["0"], holds) {
		t.Errorf("%v: %s", err, out)
	}
	os.Remove(conf)
	if out, err := backup("INCREMENT", "3").CombinedOutput(); err == nil || !bytes.Contains(out, []byte("OneBEX is not configured here")) {
		t.Errorf("%v: %s", err, out)
	}
}
