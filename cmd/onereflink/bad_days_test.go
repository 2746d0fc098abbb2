package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/scripts/oned"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

// random is data that no filesystem makes smaller.
func random(t *testing.T, path string, size int64) []byte {
	t.Helper()
	data := make([]byte, size)
	for i, state := 0, uint64(len(path))+88172645463325252; i < len(data); i++ {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		data[i] = byte(state)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return data
}

// Datastores on two filesystems share nothing: that is refused with what can be done, or copied, if the image's datastore says so: also a disk that a guest has, as
// of one moment.
func TestTwoFilesystems(t *testing.T) {
	tests.Root(t, "mounting filesystems")
	location, remotes := cloud(t, "xfs", 512<<20), installed(t)
	other, err := scratch.Make("btrfs", 512<<20, filepath.Join(location, "103"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Remove() })
	image := filepath.Join(location, "101/image")
	holds := random(t, image, 3<<20)
	if err := os.Truncate(image, 100<<20); err != nil {
		t.Fatal(err)
	}
	allow := ""
	daemon, err := oned.Start("oneadmin:secret", func(_, id string) (string, error) {
		return "<VM><ID>" + id + "</ID><TEMPLATE><DISK><DISK_ID>0</DISK_ID>" + allow + "</DISK></TEMPLATE></VM>", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(daemon.Stop)
	auth := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(auth, []byte("oneadmin:secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(location, "103/42/disk.0")
	clone := func() ([]byte, error) {
		c := exec.Command(filepath.Join(remotes, "tm/reflink/clone"), "localhost:"+image, "localhost:"+disk, "42", "101")
		c.Env = append(os.Environ(), "ONE_XMLRPC="+daemon.Address, "ONE_AUTH="+auth)
		return c.CombinedOutput()
	}
	if out, err := clone(); err == nil || !bytes.Contains(out, []byte("REFLINK_ALLOW_COPY=YES")) || bytes.Count(out, []byte("\n")) != 1 {
		t.Errorf("%v: %s", err, out)
	}
	if left, err := os.ReadDir(filepath.Dir(disk)); err != nil || len(left) > 1 { // its lock
		t.Errorf("%v, %v", left, err)
	}
	allow = "<REFLINK_ALLOW_COPY>yes</REFLINK_ALLOW_COPY>"
	if out, err := clone(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got, err := os.ReadFile(disk)
	if err != nil || len(got) != 100<<20 || !bytes.HasPrefix(got, holds) || len(bytes.Trim(got[len(holds):], "\x00")) > 0 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	var st unix.Stat_t
	if err := unix.Stat(disk, &st); err != nil || st.Blocks*512 > 8<<20 {
		t.Errorf("the holes of the image take %d bytes, %v", st.Blocks*512, err)
	}
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	locked(t, f)
	saved := filepath.Join(location, "101/saved")
	if _, err := (task{Do: "clone", From: disk, Snapshot: -1, To: saved, MayCopy: true}).run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if copied, err := os.ReadFile(saved); err != nil || !bytes.Equal(copied, got) {
		t.Errorf("%d bytes, %v", len(copied), err)
	}
	if out, err := clone(); err == nil || !bytes.Contains(out, []byte("in use")) {
		t.Errorf("%v: %s", err, out)
	}
	ended, end := context.WithCancelCause(context.Background())
	end(errors.New("ended"))
	if _, err := (task{Do: "clone", From: disk, Snapshot: -1, To: saved + "2", MayCopy: true}).run(ended); err == nil || err.Error() != "ended" && !strings.Contains(err.Error(), "ended") {
		t.Error(err)
	}
}

// Actions at once on one disk end as one after the other: each succeeds or says why not, every file holds one moment of what was there, and nothing is left.
func TestActionsAtOnce(t *testing.T) {
	tests.Root(t, "mounting a filesystem")
	for turn, fs := range []string{"btrfs", "xfs"} {
		if len(tests.Turn([]string{fs}, turn)) == 0 {
			continue
		}
		t.Run(fs, func(t *testing.T) {
			location, remotes := cloud(t, fs, 512<<20), installed(t)
			image, disk := filepath.Join(location, "101/image"), filepath.Join(location, "100/42/disk.0")
			contents := [][]byte{bytes.Repeat([]byte("a"), 1<<20), bytes.Repeat([]byte("b"), 1<<20)}
			for i, path := range []string{image, image + ".snap/0"} {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, contents[i], 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Mkdir(filepath.Dir(disk), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(image, disk); err != nil {
				t.Fatal(err)
			}
			work := []string{
				`{"Do":"snapshot","From":"` + disk + `","Snapshot":5}`, `{"Do":"revert","From":"` + disk + `","Snapshot":0}`, `{"Do":"revert","From":"` + image + `","Snapshot":0}`,
				`{"Do":"delete snapshot","From":"` + disk + `","Snapshot":5}`, `{"Do":"clone","From":"` + disk + `","Snapshot":-1,"To":"` + location + `/101/saved"}`,
				`{"Do":"clone","From":"` + image + `","Snapshot":0,"To":"` + location + `/101/saved"}`, `{"Do":"link","From":"` + image + `","To":"` + disk + `"}`,
				`{"Do":"backup","From":"` + location + `/100/42","To":"` + location + `/100/42/backup","Disks":[{"Disk":0,"Format":"raw"}]}`,
			}
			var all sync.WaitGroup
			for i := range 5 * len(work) {
				all.Go(func() {
					c := exec.Command(filepath.Join(remotes, self), "host")
					c.Stdin = strings.NewReader(work[i%len(work)])
					out, err := c.CombinedOutput()
					// The snapshot may be there already, a backup's directory be another's: what else could go wrong?
					if err != nil && !bytes.Contains(out, []byte("is there already")) && !strings.Contains(work[i%len(work)], "backup") {
						t.Errorf("%s: %v: %s", work[i%len(work)], err, out)
					}
				})
			}
			all.Wait()
			for _, path := range []string{image, image + ".snap/0", image + ".snap/5", location + "/101/saved"} {
				got, err := os.ReadFile(path)
				if strings.HasSuffix(path, "5") && os.IsNotExist(err) {
					continue
				}
				if err != nil || !bytes.Equal(got, contents[0]) && !bytes.Equal(got, contents[1]) {
					t.Errorf("%s holds %d bytes of neither, %v", path, len(got), err)
				}
			}
			if to, err := os.Readlink(disk); to != image {
				t.Errorf("the disk is a link to %q, %v", to, err)
			}
			for _, dir := range []string{"101", "101/image.snap", "100/42"} {
				if staged, err := filepath.Glob(filepath.Join(location, dir, ".onereflink-*")); err != nil || len(staged) > 0 {
					t.Errorf("left: %v, %v", staged, err)
				}
			}
		})
	}
}

// TERM ends a backup, here and on the host that does it, and what there was of it goes.
func TestBackupTerminated(t *testing.T) {
	host := otherHost(t)
	location, remotes := cloud(t, "xfs", 2<<30), installed(t)
	guest := filepath.Join(location, "100/42")
	if err := os.Mkdir(guest, 0o755); err != nil {
		t.Fatal(err)
	}
	random(t, filepath.Join(guest, "disk.0"), 400<<20)
	for _, where := range []string{"localhost", host} {
		c := exec.Command(filepath.Join(remotes, "tm/reflink/prebackup"), where+":"+guest, "0:", "-", "7", "42", "100")
		c.Stdin = strings.NewReader("<VM><ID>42</ID><TEMPLATE><DISK><DISK_ID>0</DISK_ID></DISK></TEMPLATE><BACKUPS><BACKUP_CONFIG><MODE>FULL</MODE></BACKUP_CONFIG></BACKUPS></VM>")
		c.Env = append(os.Environ(), "SCRIPTS_REMOTE_DIR="+remotes)
		var errs bytes.Buffer
		c.Stderr = &errs
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		begun := func() bool {
			st, err := os.Stat(filepath.Join(guest, "backup/disk.0.0"))
			return err == nil && st.Size() > 4<<20
		}
		if !within(time.Minute, begun) {
			t.Fatalf("no backup begins: %s", errs.String())
		}
		if err := c.Process.Signal(unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err == nil || !strings.Contains(errs.String(), "it was ended") || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%s: %v: %s", where, err, errs.String())
		}
		gone := func() bool {
			_, err := os.Stat(filepath.Join(guest, "backup"))
			return os.IsNotExist(err)
		}
		if !within(time.Minute, gone) {
			t.Errorf("%s: the backup is there still", where)
		}
	}
	left, err := os.ReadDir(guest)
	if err != nil || len(left) > 2 {
		t.Errorf("%v, %v", fmt.Sprint(left), err)
	}
}

// within waits until something is so.
func within(limit time.Duration, so func() bool) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if so() {
			return true
		}
	}
	return so()
}
