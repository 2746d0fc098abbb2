// Package domain runs guests on a Xen host and gives them disks as the toolstack does:
// by the keys in XenStore that xen-blkback and xen-blkfront read
// (xen/include/public/io/blkif.h).
package domain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/scripts/domain/xenstore"
)

// Image is what guests boot: a kernel for PV and PVH, and a ramdisk whose init runs
// Serve.
type Image struct{ Kernel, Ramdisk string }

// Available says why guests cannot be run here, or nil.
func Available(image Image) error {
	capabilities, err := os.ReadFile("/proc/xen/capabilities")
	if err != nil || !strings.Contains(string(capabilities), "control_d") {
		return errors.New("this is not the control domain of a Xen host")
	}
	if _, err := exec.LookPath("xl"); err != nil {
		return errors.New("xl is not installed")
	}
	if image.Kernel == "" {
		return errors.New("there is no guest's kernel")
	}
	return nil
}

// bootTime is how long a guest may take to boot where the processor is emulated.
const bootTime = 10 * time.Minute

// stateTime is how long a device may take from one state to another.
const stateTime = time.Minute

// States of a device (xen/include/public/io/xenbus.h)
const (
	initialising = "1"
	connected    = "4"
	closing      = "5"
	closed       = "6"
)

// Domain is a running guest.
type Domain struct {
	ID    int
	Name  string
	xs    *xenstore.Conn
	calls int
	slots []string // what is plugged: keys of the caller, "" for a free slot
}

// Create makes a guest, paused: its disks may be plugged before it runs.
func Create(ctx context.Context, image Image, name, kind string) (*Domain, error) {
	if kind != "pv" && kind != "pvh" {
		return nil, fmt.Errorf("a guest of type %q; there are pv and pvh", kind)
	}
	xs, err := xenstore.Open()
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`name = %q
type = %q
kernel = %q
ramdisk = %q
extra = "console=hvc0 quiet panic=-1 mitigations=off cryptomgr.notests srlab.role=guest srlab.name=%s"
memory = 192
vcpus = 1
on_crash = "destroy"
on_reboot = "destroy"
on_poweroff = "destroy"
`, name, kind, image.Kernel, image.Ramdisk, name)
	file := filepath.Join(os.TempDir(), "domain-"+name+".cfg")
	defer os.Remove(file)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	if _, err := xl(ctx, "create", "-q", "-p", file); err != nil {
		xs.Close()
		return nil, err
	}
	id, err := xl(ctx, "domid", name)
	d := &Domain{Name: name, xs: xs}
	if err == nil {
		d.ID, err = strconv.Atoi(id)
	}
	return d, err
}

// Unpause lets it run, and waits until its agent answers.
func (d *Domain) Unpause(ctx context.Context) error {
	if _, err := xl(ctx, "unpause", d.Name); err != nil {
		return err
	}
	_, err := d.await(bootTime, 0)
	if err != nil {
		return fmt.Errorf("domain %s does not boot: %w", d.Name, err)
	}
	return nil
}

// Alive says whether the guest exists.
func (d *Domain) Alive() bool {
	_, err := d.xs.Read("/local/domain/" + strconv.Itoa(d.ID) + "/vm")
	return err == nil
}

// Kill ends the guest as a failing processor would.
func (d *Domain) Kill(ctx context.Context) error {
	_, err := xl(ctx, "destroy", d.Name)
	return errors.Join(err, d.gone())
}

// Stop has the guest power itself off.
func (d *Domain) Stop() error {
	if _, err := d.Run(bootTime, "poweroff", "-f"); err != nil && d.Alive() {
		return err
	}
	return d.gone()
}

// gone waits until nothing is left of the guest, and removes what remains of its disks.
func (d *Domain) gone() error {
	for deadline := time.Now().Add(stateTime); d.Alive(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("domain %s is still there", d.Name)
		}
	}
	var errs error
	for slot, key := range d.slots {
		if key != "" {
			errs = errors.Join(errs, d.released(slot), d.xs.Remove(d.backend(slot)))
		}
	}
	d.slots = nil
	return errors.Join(errs, d.xs.Close())
}

// released waits until xen-blkback has let go of a disk. Of a guest that is gone it tells
// that by no state.
func (d *Domain) released(slot int) error {
	device := fmt.Sprintf("/sys/bus/xen-backend/devices/vbd-%d-%d", d.ID, virtualDevice(slot))
	for deadline := time.Now().Add(stateTime); ; time.Sleep(30 * time.Millisecond) {
		if _, err := os.Stat(device); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("xen-blkback keeps %s of domain %s", device, d.Name)
		}
	}
}

// path is that of the guest's own tree.
func (d *Domain) path(below string) string {
	return "/local/domain/" + strconv.Itoa(d.ID) + "/" + below
}

// virtualDevice is the number that xvda, xvdb … have on the wire.
func virtualDevice(slot int) int { return 202<<8 | slot<<4 }

func (d *Domain) backend(slot int) string {
	return fmt.Sprintf("/local/domain/0/backend/vbd/%d/%d", d.ID, virtualDevice(slot))
}

func (d *Domain) frontend(slot int) string {
	return d.path("device/vbd/" + strconv.Itoa(virtualDevice(slot)))
}

// Disk is what the guest calls the disk with that key: /dev/xvda for example; "" if it
// has none.
func (d *Domain) Disk(key string) string {
	slot := slices.Index(d.slots, key)
	if slot < 0 {
		return ""
	}
	return "/dev/xvd" + string(rune('a'+slot))
}

// Plug gives the guest a block device of this host. key is the caller's name for it.
// What the toolstack's scripts for hot-plugging write is written as well.
func (d *Domain) Plug(key, device string, readOnly bool) error {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return &os.PathError{Op: "stat", Path: device, Err: err}
	}
	slot := slices.Index(d.slots, "")
	if slot < 0 {
		slot = len(d.slots)
		d.slots = append(d.slots, "")
	}
	back, front := d.backend(slot), d.frontend(slot)
	mode := "w"
	if readOnly {
		mode = "r"
	}
	me, id := "n0", strconv.Itoa(d.ID)
	err := errors.Join(
		d.xs.Mkdir(front), d.xs.Permit(front, "n"+id, "r0"),
		d.xs.Mkdir(back), d.xs.Permit(back, me, "r"+id))
	for _, kv := range [][2]string{
		{front + "/backend", back}, {front + "/backend-id", "0"},
		{front + "/virtual-device", strconv.Itoa(virtualDevice(slot))}, {front + "/device-type", "disk"},
		{back + "/frontend", front}, {back + "/frontend-id", id}, {back + "/online", "1"},
		{back + "/removable", "1"}, {back + "/mode", mode}, {back + "/type", "phy"},
		{back + "/dev", "xvd" + string(rune('a'+slot))}, {back + "/params", device},
		{back + "/physical-device", fmt.Sprintf("%x:%x", unix.Major(st.Rdev), unix.Minor(st.Rdev))},
		{back + "/hotplug-status", "connected"},
		// Last: each side begins when it sees its state.
		{back + "/state", initialising}, {front + "/state", initialising},
	} {
		if err == nil {
			err = d.xs.Write(kv[0], kv[1])
		}
	}
	if err != nil {
		return err
	}
	d.slots[slot] = key
	return nil
}

// Connected waits until the guest uses the disk.
func (d *Domain) Connected(key string) error {
	slot := slices.Index(d.slots, key)
	if slot < 0 {
		return fmt.Errorf("domain %s has no disk %s", d.Name, key)
	}
	if _, err := d.xs.Await(stateTime, d.backend(slot)+"/state", connected); err != nil {
		return err
	}
	_, err := d.xs.Await(stateTime, d.frontend(slot)+"/state", connected)
	return err
}

// Unplug asks the guest for the disk back, and waits so long until it gives it. A guest
// that still uses it does not.
func (d *Domain) Unplug(key string, timeout time.Duration) error {
	slot := slices.Index(d.slots, key)
	if slot < 0 {
		return fmt.Errorf("domain %s has no disk %s", d.Name, key)
	}
	back := d.backend(slot)
	if err := errors.Join(d.xs.Write(back+"/online", "0"), d.xs.Write(back+"/state", closing)); err != nil {
		return err
	}
	if _, err := d.xs.Await(timeout, back+"/state", closed, ""); err != nil {
		return fmt.Errorf("domain %s keeps the disk: %w", d.Name, err)
	}
	d.slots[slot] = ""
	return errors.Join(d.xs.Remove(d.frontend(slot)), d.xs.Remove(back))
}

// Sectors is what the backend tells the guest of the disk's size, in sectors of 512
// bytes.
func (d *Domain) Sectors(key string) (string, error) {
	return d.xs.Read(d.backend(slices.Index(d.slots, key)) + "/sectors")
}

func xl(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "xl", args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return "", fmt.Errorf("xl %s: %w: %s", strings.Join(args, " "), err, text)
	}
	return text, nil
}
