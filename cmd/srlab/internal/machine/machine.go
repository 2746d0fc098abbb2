// Package machine runs the lab's machines: emulated ones, so that neither hardware
// support nor root is needed.
package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/srlab/internal/debian"
	"reflinksr/cmd/srlab/internal/guest"
)

// Config is what a machine is made of.
type Config struct {
	Name       string
	Hypervisor string // Xen; "" if the kernel runs on the machine itself
	Kernel     string // an ELF file
	Ramdisk    string
	Append     string // to the kernel's command line
	Memory     int    // MiB
	Disks      []Disk
	Links      []Link
	Dir        string // of its sockets; its path is short
	// Console is told every line of its console.
	Console func(line string)
}

// Disk is a file that a machine has as a disk. Several machines may have it.
type Disk struct{ Name, File string }

// Link is a network card: one end of a cable.
type Link struct {
	Name   string
	Socket string // both ends name it
	Listen bool   // one of them, which is there first
	MAC    string
}

// Machine is one that runs.
type Machine struct {
	Name  string
	Agent net.Conn // to the process that guest.Main runs
	dir   string
	links []Link
	cmd   *exec.Cmd
	over  chan struct{} // closed when it is off
	once  sync.Once
	log   []string // the end of its console
	lock  sync.Mutex
}

// Start switches a machine on. It is off at the latest when ctx is done.
func Start(ctx context.Context, root *debian.Root, c Config) (*Machine, error) {
	m := &Machine{Name: c.Name, dir: c.Dir, links: c.Links, over: make(chan struct{})}
	args := []string{
		"-accel", "tcg,thread=multi,tb-size=512",
		// No SMAP: Xen's domain 0 does not boot with it here. No AVX: slower to emulate.
		"-cpu", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+svm,+npt",
		"-smp", "1", "-m", fmt.Sprint(c.Memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-L", filepath.Join(root.Dir, "usr/share/qemu"), "-L", filepath.Join(root.Dir, "usr/share/seabios"),
		"-qmp", "unix:" + m.socket("qmp") + ",server=on,wait=off",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=agent,path=" + m.socket("agent") + ",server=on,wait=off",
		"-device", "virtserialport,chardev=agent,name=" + guest.Port,
	}
	line := "panic=-1 no_timer_check mitigations=off quiet cryptomgr.notests srlab.name=" + c.Name + " " + c.Append
	if c.Hypervisor != "" {
		args = append(args, "-kernel", c.Hypervisor,
			"-append", "console=com1 com1=115200,8n1 dom0_mem=896M,max:896M loglvl=error guest_loglvl=error spec-ctrl=no xpti=no",
			"-initrd", c.Kernel+" console=hvc0 "+line+","+c.Ramdisk)
	} else {
		args = append(args, "-kernel", c.Kernel, "-append", "console=ttyS0 "+line, "-initrd", c.Ramdisk)
	}
	for i, d := range c.Disks {
		// When the machine is cut off, the file has what its kernel wrote to the disk, and
		// nothing of what that still had in memory.
		args = append(args, "-drive", fmt.Sprintf("if=none,id=d%d,format=raw,cache=writeback,discard=unmap,file.locking=off,file=%s", i, d.File),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=d%d,serial=%s,share-rw=on", i, d.Name))
	}
	for i, l := range c.Links {
		side := "off"
		if l.Listen {
			side = "on"
		}
		args = append(args, "-netdev", fmt.Sprintf("stream,id=n%d,server=%s,addr.type=unix,addr.path=%s", i, side, l.Socket),
			"-device", fmt.Sprintf("virtio-net-pci,id=net%d,netdev=n%d,mac=%s,romfile=", i, i, l.MAC))
	}
	var err error
	if m.cmd, err = root.Command(ctx, "qemu-system-x86_64", args...); err != nil {
		return nil, err
	}
	m.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	m.cmd.WaitDelay = time.Second
	console, w := io.Pipe()
	m.cmd.Stdout, m.cmd.Stderr = w, w
	go m.listen(console, c.Console)
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		m.cmd.Wait()
		w.Close()
		if m.Agent != nil {
			m.Agent.Close()
		}
		close(m.over)
	}()
	if m.Agent, err = m.dial("agent"); err != nil {
		m.Cut()
		return nil, fmt.Errorf("machine %s does not start: %w\n%s", c.Name, err, m.Tail())
	}
	// It answers when all else is there, the ends of cables as well.
	if err := m.monitor(); err != nil {
		m.Cut()
		return nil, fmt.Errorf("machine %s does not start: %w\n%s", c.Name, err, m.Tail())
	}
	return m, nil
}

func (m *Machine) socket(name string) string { return filepath.Join(m.dir, m.Name+"."+name) }

// dial connects to one of the machine's sockets, as soon as there is one. The time is for a machine that hangs.
func (m *Machine) dial(name string) (net.Conn, error) {
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("unix", m.socket(name))
		if err == nil || time.Now().After(deadline) {
			return conn, err
		}
		select {
		case <-m.over:
			return nil, err
		default:
		}
	}
}

// listen reads the console.
func (m *Machine) listen(console io.Reader, tell func(string)) {
	lines := bufio.NewScanner(console)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		m.lock.Lock()
		m.log = append(m.log[max(0, len(m.log)-39):], line)
		m.lock.Unlock()
		if tell != nil {
			tell(line)
		}
	}
	io.Copy(io.Discard, console)
}

// Tail is the end of what the console showed.
func (m *Machine) Tail() string {
	m.lock.Lock()
	defer m.lock.Unlock()
	return strings.Join(m.log, "\n")
}

// Cut switches it off as a power failure does.
func (m *Machine) Cut() {
	m.once.Do(func() { m.cmd.Process.Kill() })
	<-m.over
}

// Off waits until it has switched itself off.
func (m *Machine) Off(timeout time.Duration) error {
	select {
	case <-m.over:
		return nil
	case <-time.After(timeout):
		return fmt.Errorf("machine %s is still on after %v\n%s", m.Name, timeout, m.Tail())
	}
}

// Plug pulls a network cable out, or puts it in again.
func (m *Machine) Plug(link string, in bool) error {
	i := slices.IndexFunc(m.links, func(l Link) bool { return l.Name == link })
	if i < 0 {
		return fmt.Errorf("machine %s has no cable %s", m.Name, link)
	}
	return m.monitor(order{"set_link", map[string]any{"name": fmt.Sprintf("net%d", i), "up": in}})
}

// Reset restarts it as its reset button does. Until Stay its firmware can do so too,
// which it does once more.
func (m *Machine) Reset() error {
	return m.monitor(order{"set-action", map[string]any{"reboot": "reset"}}, order{"system_reset", nil})
}

// Stay has the machine go off when it restarts by itself, as from the start.
func (m *Machine) Stay() error {
	return m.monitor(order{"set-action", map[string]any{"reboot": "shutdown"}})
}

// order is a command of QMP.
type order struct {
	Execute   string         `json:"execute"`
	Arguments map[string]any `json:"arguments,omitempty"`
}

// monitor has the emulator carry out orders.
func (m *Machine) monitor(orders ...order) error {
	conn, err := m.dial("qmp")
	if err != nil {
		return err
	}
	defer conn.Close()
	requests, answers := json.NewEncoder(conn), json.NewDecoder(conn)
	var greeting any
	if err := answers.Decode(&greeting); err != nil {
		return err
	}
	for _, o := range append([]order{{Execute: "qmp_capabilities"}}, orders...) {
		if err := requests.Encode(o); err != nil {
			return err
		}
		var answer struct {
			Return any
			Error  *struct{ Desc string }
			Event  string
		}
		for answer.Event = "none yet"; answer.Event != ""; {
			answer.Event = ""
			if err := answers.Decode(&answer); err != nil {
				return err
			}
		}
		if answer.Error != nil {
			return fmt.Errorf("%s: %s", o.Execute, answer.Error.Desc)
		}
	}
	return nil
}
