package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"reflinksr/internal/datastore"
	"reflinksr/scripts/oned"
)

// fillDisk makes a disk of so many bytes of which so many are data, in pieces of 1 MiB.
func fillDisk(b *testing.B, path string, size, data int64) {
	b.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	piece := make([]byte, 1<<20)
	for i := range piece {
		piece[i] = byte(i*7 + 1)
	}
	step := size / (data >> 20)
	for at := int64(0); at < size; at += step {
		if _, err := f.WriteAt(piece, at); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
}

// A clone of a disk of 10 GiB of which 2 GiB are written, in 2048 places.
func BenchmarkClone(b *testing.B) {
	for _, fs := range []string{"btrfs", "xfs"} {
		b.Run(fs, func(b *testing.B) {
			location := cloud(b, fs, 8<<30)
			image := filepath.Join(location, "101", "image")
			fillDisk(b, image, 10<<30, 2<<30)
			for i := 0; b.Loop(); i++ {
				_, err := task{Do: "clone", From: image, Snapshot: -1, To: filepath.Join(location, fmt.Sprintf("100/%d/disk.0", i))}.run(context.Background())
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The action clone, from its start to its end, of the same disk to a host that is reached by ssh, with what oned is asked: by a connection of its own, and by one that ssh
// keeps, as OpenNebula's own configuration of it does.
func BenchmarkCloneBySSH(b *testing.B) {
	for _, fs := range []string{"btrfs", "xfs"} {
		location, image := "", ""
		for _, how := range []string{"new", "kept"} {
			b.Run(fs+"/"+how, func(b *testing.B) {
				host := otherHost(b)
				if how == "kept" {
					keepConnections(b)
				}
				if location == "" || !exists(image) {
					location = cloud(b, fs, 8<<30)
					image = filepath.Join(location, "101", "image")
					fillDisk(b, image, 10<<30, 2<<30)
				}
				cloneBySSH(b, host, location, image)
			})
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// keepConnections has ssh keep a connection for a while.
func keepConnections(b *testing.B) {
	b.Helper()
	f, err := os.OpenFile("/etc/ssh/ssh_config", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("ControlMaster auto\nControlPath /etc/ssh/%C\nControlPersist 5\n"); err != nil {
		b.Fatal(err)
	}
}

func cloneBySSH(b *testing.B, host, location, image string) {
	remotes := installed(b)
	daemon, err := oned.Start("oneadmin:secret", func(_, id string) (string, error) {
		return "<VM><ID>" + id + "</ID><TEMPLATE><DISK><DISK_ID>0</DISK_ID></DISK></TEMPLATE></VM>", nil
	})
	if err != nil {
		b.Fatal(err)
	}
	defer daemon.Stop()
	auth := filepath.Join(b.TempDir(), "auth")
	if err := os.WriteFile(auth, []byte("oneadmin:secret"), 0o600); err != nil {
		b.Fatal(err)
	}
	alone, rounds := time.Duration(0), 0
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		began := time.Now()
		if out, err := exec.Command("ssh", host, "true").CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		alone, rounds = alone+time.Since(began), rounds+1
		b.StartTimer()
		c := exec.Command(filepath.Join(remotes, "tm/reflink/clone"), "localhost:"+image, fmt.Sprintf("%s:%s/100/%d/disk.0", host, location, i), fmt.Sprint(i), "101")
		c.Env = append(os.Environ(), "SCRIPTS_REMOTE_DIR="+remotes, "ONE_XMLRPC="+daemon.Address, "ONE_AUTH="+auth)
		if out, err := c.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
	b.ReportMetric(float64(alone.Milliseconds())/float64(rounds), "ms-of-ssh-alone/op") // what the machine has left for others decides on both
}

// An increment of a disk of 100 GiB of which 1 GiB has changed, in 1024 places: the reading and writing of that included.
func BenchmarkIncrement(b *testing.B) {
	for _, fs := range []string{"btrfs", "xfs"} {
		b.Run(fs, func(b *testing.B) {
			location := cloud(b, fs, 16<<30)
			guest := filepath.Join(location, "100", "42")
			if err := os.Mkdir(guest, 0o755); err != nil {
				b.Fatal(err)
			}
			disk := filepath.Join(guest, "disk.0")
			fillDisk(b, disk, 100<<30, 2<<30)
			n := 0
			increment := func() {
				m, err := datastore.Moments(context.Background(), guest, []datastore.Backup{{Disk: 0, Increment: n, Format: "raw"}})
				if err == nil {
					err = m.Write(context.Background(), filepath.Join(guest, "backup"), nil)
				}
				if err != nil {
					b.Fatal(err)
				}
				m.Close()
				n++
			}
			increment()
			for b.Loop() {
				b.StopTimer()
				fillDisk(b, disk, 100<<30, 1<<30)
				b.StartTimer()
				increment()
			}
		})
	}
}
