// Package guest is what runs as the first process of the lab's machines, and of the
// guests on its Xen host.
package guest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/pool"
	"reflinksr/scripts"
	"reflinksr/scripts/domain"
)

// Where things are in a ramdisk.
const (
	Plugin       = "usr/bin/reflinksr"
	GuestKernel  = "guest/vmlinux"
	GuestRamdisk = "guest/ramdisk"
	toolstack    = "/usr/libexec/xapi-storage-script"
	// Port is the name of the virtio port by which the lab tells a machine what to do.
	Port = "reflinksr"
)

// IsInit says whether this process is a machine's first.
func IsInit() bool { return os.Getpid() == 1 }

// Main runs until the machine is to be switched off, and switches it off.
func Main() {
	err := run()
	if err != nil {
		fmt.Println("srlab:", err)
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	if err := mountAll(); err != nil {
		return err
	}
	if err := seed(); err != nil {
		return err
	}
	os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
	os.Setenv("HOME", "/")
	options, err := cmdline()
	if err != nil {
		return err
	}
	if out, err := exec.Command("/usr/bin/busybox", "--install", "-s", "/bin").CombinedOutput(); err != nil {
		return fmt.Errorf("busybox: %w: %s", err, out)
	}
	if err := errors.Join(unix.Sethostname([]byte(options["srlab.name"])), loadModules()); err != nil {
		return err
	}
	if err := errors.Join(introduce(options["srlab.host"]), connect(options["srlab.net"])); err != nil {
		return err
	}
	switch role := options["srlab.role"]; role {
	case "guest":
		return domain.Serve()
	case "xen":
		if err := startXen(); err != nil {
			return err
		}
	case "host", "old", "nfs", "ocfs2":
	default:
		return fmt.Errorf("there is no role %q", role)
	}
	if err := nameDisks(); err != nil {
		return err
	}
	return serve()
}

// mountAll mounts what programs expect.
func mountAll() error {
	for _, m := range []struct{ kind, dir, options string }{
		{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"devtmpfs", "/dev", ""}, {"devpts", "/dev/pts", ""},
		{"tmpfs", "/dev/shm", ""}, {"tmpfs", "/run", "mode=755"}, {"tmpfs", "/tmp", ""},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, m.options); err != nil {
			return fmt.Errorf("mounting %s: %w", m.dir, err)
		}
	}
	for _, dir := range []string{"/bin", "/etc", "/srv", "/run/lock", "/run/xen", "/var/log/xen", "/var/lib/xen", "/var/lib/nfs", "/mnt"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return errors.Join(os.Symlink("/run", "/var/run"), os.Symlink("/run/lock", "/var/lock"),
		os.Symlink("/proc/self/fd", "/dev/fd"), os.Symlink("/proc/self/mounts", "/etc/mtab"))
}

// cmdline reads the options that the lab gave to the kernel.
func cmdline() (map[string]string, error) {
	data, err := os.ReadFile("/proc/cmdline")
	options := map[string]string{}
	for _, word := range strings.Fields(string(data)) {
		k, v, _ := strings.Cut(word, "=")
		options[k] = v
	}
	return options, err
}

// introduce gives the machine the identity by which the toolstack knows a host.
func introduce(uuid string) error {
	if uuid == "" {
		return nil
	}
	return os.WriteFile("/etc/xensource-inventory", []byte("INSTALLATION_UUID='"+uuid+"'\n"), 0o600)
}

// connect gives network cards their addresses, in the order of both.
func connect(addresses string) error {
	commands := [][]string{{"ip", "link", "set", "lo", "up"}}
	for i, address := range strings.FieldsFunc(addresses, func(r rune) bool { return r == ',' }) {
		card := "eth" + strconv.Itoa(i)
		commands = append(commands, []string{"ip", "addr", "add", address, "dev", card}, []string{"ip", "link", "set", card, "up"})
	}
	for _, argv := range commands {
		if out, err := exec.Command("/usr/bin/busybox", argv...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
		}
	}
	return nil
}

// loadModules loads all of the ramdisk's, in their order. Some are for devices that a
// machine need not have.
func loadModules() error {
	files, err := filepath.Glob("/modules/*")
	if err != nil {
		return err
	}
	slices.Sort(files)
	var errs error
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && err != unix.EEXIST && err != unix.ENODEV {
			errs = errors.Join(errs, fmt.Errorf("loading %s: %w", filepath.Base(file), err))
		}
	}
	return errs
}

// nameDisks gives the disks of the machine the names that the lab knows them by.
func nameDisks() error {
	serials, err := filepath.Glob("/sys/block/vd*/serial")
	if err == nil {
		err = os.MkdirAll("/dev/lab", 0o755)
	}
	for _, file := range serials {
		if err != nil {
			return err
		}
		var name []byte
		if name, err = os.ReadFile(file); err == nil {
			err = os.Symlink("/dev/"+filepath.Base(filepath.Dir(file)), "/dev/lab/"+string(bytes.TrimSpace(name)))
		}
	}
	return err
}

// startXen makes the control domain one: XenStore, domain 0 in it, consoles.
func startXen() error {
	if err := unix.Mount("xenfs", "/proc/xen", "xenfs", 0, ""); err != nil {
		return fmt.Errorf("mounting xenfs: %w", err)
	}
	for _, argv := range [][]string{
		{"xenstored", "--pid-file", "/run/xen/xenstored.pid"},
		{"xen-init-dom0"},
		{"xenconsoled", "--log=all", "--log-dir=/var/log/xen"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil { // #nosec G204 -- of this table
			return fmt.Errorf("%s: %w: %s", argv[0], err, out)
		}
	}
	return nil
}

// serve carries out what the lab says, with the plugin installed as on any host.
func serve() error {
	if err := os.MkdirAll(toolstack, 0o755); err != nil {
		return err
	}
	if out, err := exec.Command("/"+Plugin, "install", "--root", toolstack).CombinedOutput(); err != nil {
		return fmt.Errorf("installing the plugin: %w: %s", err, out)
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	defer port.Close()
	dir, err := os.MkdirTemp("", "srlab-")
	if err != nil {
		return err
	}
	c := scripts.Config{
		Volume:   toolstack + "/volume/org.xen.xapi.storage.reflink",
		Datapath: []string{toolstack + "/datapath"},
		FS:       "xfs",
		Own:      true,
		Timeout:  2 * time.Minute,
		Limit:    time.Hour,
		Guest:    domain.Image{Kernel: "/" + GuestKernel, Ramdisk: "/" + GuestRamdisk},
	}
	if err := c.Check(); err != nil {
		return err
	}
	running := pool.New(1, true)
	err = running.Run(func(t testscript.T) error { return scripts.Serve(t, c, dir, port) })
	running.Wait()
	return err
}

// openPort finds the port to the lab by its name.
func openPort() (*os.File, error) {
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, file := range names {
			if name, e := os.ReadFile(file); e == nil && string(bytes.TrimSpace(name)) == Port {
				return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(file)), os.O_RDWR, 0)
			}
		}
		if err != nil || time.Now().After(deadline) {
			return nil, fmt.Errorf("there is no port to the lab: %w", errors.Join(err, os.ErrNotExist))
		}
	}
}
