package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/scripts"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

// inNetwork marks the process that is the front-end, in namespaces of its own for the network and the host's name.
const inNetwork = "ONEREFLINK_IN_NETWORK"

// Two hosts with a network and a name of their own, where ssh is the only way, do what the front-end has them do.
func TestTwoHosts(t *testing.T) {
	tests.Root(t, "hosts in namespaces")
	for _, program := range []string{"sshd", "ssh", "ssh-keygen", "ip", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			tests.Skip(t, err)
		}
	}
	fs := os.Getenv(inNetwork)
	if fs == "" {
		for turn, fs := range []string{"btrfs", "xfs"} {
			if len(tests.Turn([]string{"all"}, turn)) > 0 {
				t.Run(fs, inNetworks)
			}
		}
		return
	}
	if err := unix.Sethostname([]byte("frontend")); err != nil {
		t.Fatal(err)
	}
	do(t, "ip", "link", "set", "lo", "up")
	secureShell(t)
	remotes := installed(t)
	onHosts(t, remotes)
	for i := range 2 {
		startHost(t, i+1)
	}
	c := scripts.Config{OpenNebula: remotes, FS: fs, Own: true, Hosts: []string{"host01", "host02"}}
	files, err := c.Select(t.TempDir(), regexp.MustCompile("^hosts_"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	scripts.Test(t, c, files)
}

// inNetworks runs the test again as the front-end, on the filesystem that the subtest is called.
func inNetworks(t *testing.T) {
	fs := filepath.Base(t.Name())
	if err := scratch.Available(fs); err != nil {
		tests.Skip(t, err)
	}
	c := exec.Command("/proc/self/exe", "-test.run=^TestTwoHosts$", "-test.v", "-test.timeout=9m")
	c.Args[0] = os.Args[0]
	c.Env = append(os.Environ(), inNetwork+"="+fs)
	c.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWUTS, Pdeathsig: unix.SIGKILL}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func do(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

// secureShell has a user oneadmin on all hosts, whom sshd lets in; what there is of that is in this mount namespace alone.
func secureShell(t *testing.T) {
	t.Helper()
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	with := filepath.Join(t.TempDir(), "passwd")
	passwd = append(passwd, "oneadmin-of-test:*:9869:9869::/:/bin/sh\n"...)
	if err := os.WriteFile(with, passwd, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(with, "/etc/passwd", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/etc/ssh", "/var/tmp"} {
		if err := unix.Mount("test", dir, "tmpfs", 0, "mode=755"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"host", "user"} {
		do(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/"+key)
	}
	if err := os.Chown("/etc/ssh/user", 9869, 9869); err != nil {
		t.Fatal(err)
	}
	text := "Host *\nUser oneadmin-of-test\nIdentityFile /etc/ssh/user\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n"
	for i := range 2 {
		text += fmt.Sprintf("Host host%02d\nHostName 10.9.%d.2\n", i+1, i+1)
	}
	for path, text := range map[string]string{
		"/etc/ssh/sshd_config": "HostKey /etc/ssh/host\nAuthorizedKeysFile /etc/ssh/user.pub\nStrictModes no\nUsePAM no\nLogLevel ERROR\n",
		"/etc/ssh/ssh_config":  text,
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// onHosts puts the drivers where onehost sync does.
func onHosts(t *testing.T, remotes string) {
	t.Helper()
	if err := os.CopyFS("/var/tmp/one", os.DirFS(remotes)); err != nil {
		t.Fatal(err)
	}
	do(t, "chmod", "-R", "a+rX", "/var/tmp/one", remotes)
}

// startHost starts sshd in namespaces of its own, and a cable to them.
func startHost(t *testing.T, n int) {
	t.Helper()
	c := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config")
	c.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWUTS, Pdeathsig: unix.SIGKILL}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	pid := strconv.Itoa(c.Process.Pid)
	here, there, subnet := fmt.Sprintf("host%d", n), "eth0", fmt.Sprintf("10.9.%d.", n)
	do(t, "ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", pid)
	do(t, "ip", "addr", "add", subnet+"1/24", "dev", here)
	do(t, "ip", "link", "set", here, "up")
	do(t, "nsenter", "-t", pid, "-u", "hostname", fmt.Sprintf("host%02d", n))
	for _, args := range [][]string{{"addr", "add", subnet + "2/24", "dev", there}, {"link", "set", there, "up"}, {"link", "set", "lo", "up"}} {
		do(t, "nsenter", append([]string{"-t", pid, "-n", "ip"}, args...)...)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, err := exec.Command("ssh", fmt.Sprintf("host%02d", n), "hostname").CombinedOutput()
		if err == nil && string(out) == fmt.Sprintf("host%02d\n", n) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("host%02d: %v: %s", n, err, out)
		}
	}
}
