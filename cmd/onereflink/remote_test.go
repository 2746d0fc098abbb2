package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/datastore"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

// otherHost is this machine once more, by sshd on a port of its own: what ssh and sshd know is in this test's mount namespace.
func otherHost(t testing.TB) (name string) {
	tests.Root(t, "a server of ssh")
	for _, program := range []string{"/usr/sbin/sshd", "/usr/bin/ssh"} {
		if _, err := os.Stat(program); err != nil {
			tests.Skip(t, err)
		}
	}
	if err := unix.Mount("ssh", "/etc/ssh", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/etc/ssh", unix.MNT_DETACH) })
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/"+key).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	for path, text := range map[string]string{
		"/etc/ssh/sshd_config": "HostKey /etc/ssh/host\nAuthorizedKeysFile /etc/ssh/user.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nListenAddress 127.0.0.1\n" + fmt.Sprintf("Port %d\n", port),
		"/etc/ssh/ssh_config":  fmt.Sprintf("Host hostb\nHostName 127.0.0.1\nPort %d\nIdentityFile /etc/ssh/user\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n", port),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config")
	c.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			conn.Close()
			return "hostb"
		}
		if time.Now().After(deadline) {
			t.Fatal("sshd does not listen")
		}
	}
}

// locked locks an open file as QEMU does what it has.
func locked(t *testing.T, f *os.File) {
	t.Helper()
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: 100, Len: 1}); err != nil {
		t.Fatal(err)
	}
}

// cloud makes the directories of datastores 100 and 101 on a filesystem.
func cloud(t testing.TB, kind string, size int64) (location string) {
	t.Helper()
	fs, err := scratch.Make(kind, size, filepath.Join(t.TempDir(), "mnt"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fs.Remove() })
	for _, name := range []string{"100", "101"} {
		if err := os.Mkdir(filepath.Join(fs.Dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return fs.Dir
}

// A task for another host is done there, by one ssh; an error comes back as one line; and a host without the program, or that is none, is told with what to do.
func TestOtherHost(t *testing.T) {
	host := otherHost(t)
	location := cloud(t, "xfs", 512<<20)
	remotes := installed(t)
	t.Setenv("SCRIPTS_REMOTE_DIR", remotes)
	image, disk := filepath.Join(location, "101", "image"), filepath.Join(location, "100/42/disk.0")
	ctx := context.Background()
	if _, err := (task{Do: "make", To: image, Format: "raw", Size: 8 << 20}).run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := (task{Do: "clone", From: image, Snapshot: -1, To: disk}).at(ctx, host); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(disk); err != nil || st.Size() != 8<<20 {
		t.Errorf("%v, %v", st, err)
	}
	answer, err := task{Do: "usage", From: location}.at(ctx, host)
	if err != nil || !strings.HasPrefix(answer, "USED_MB=") {
		t.Errorf("%q, %v", answer, err)
	}
	for _, refused := range []struct {
		task
		host, says string
	}{
		{task{Do: "revert", From: disk, Snapshot: 3}, host, "hostb: " + disk + " has no snapshot 3"},
		{task{Do: "nonsense"}, host, "onehost sync -f"},
		{task{Do: "usage", From: location}, "nowhere.invalid", "cannot be reached by ssh"},
	} {
		if _, err := refused.at(ctx, refused.host); err == nil || !strings.Contains(err.Error(), refused.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", refused.Do, err)
		}
	}
	t.Setenv("SCRIPTS_REMOTE_DIR", "/nowhere")
	if _, err := (task{Do: "usage", From: location}).at(ctx, host); err == nil || !strings.Contains(err.Error(), "onehost sync -f puts it there") {
		t.Error(err)
	}
}

// A backup that is ended leaves no directory, and what its next increment needs stays.
func TestBackupIsEnded(t *testing.T) {
	tests.Root(t, "mounting a filesystem")
	location := cloud(t, "xfs", 512<<20)
	guest := filepath.Join(location, "100", "42")
	disk := filepath.Join(guest, "disk.0")
	ctx := context.Background()
	if _, err := (task{Do: "make", To: disk, Format: "raw", Size: 8 << 20}).run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(disk, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	backup := task{Do: "backup", From: guest, To: filepath.Join(guest, "backup"), Disks: []datastore.Backup{{Disk: 0, Format: "raw"}}}
	if _, err := backup.run(ctx); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("changed"), 1<<20); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	backup.Disks[0].Increment = 1
	if _, err := backup.run(ended); err == nil {
		t.Error("it went on")
	}
	if _, err := os.Stat(backup.To); !os.IsNotExist(err) {
		t.Errorf("the backup is there: %v", err)
	}
	if _, err := backup.run(ctx); err != nil {
		t.Errorf("it cannot be taken again: %v", err)
	}
}
