package opennebula

import (
	"encoding/xml"
	"fmt"

	"reflinksr/internal/fault"
)

// VM is a guest as oned knows it.
type VM struct {
	XMLName  xml.Name `xml:"VM"`
	ID       string   `xml:"ID"`
	LCMState string   `xml:"LCM_STATE"`
	DeployID string   `xml:"DEPLOY_ID"`
	Disks    []Disk   `xml:"TEMPLATE>DISK"`
	Backup   Backup   `xml:"BACKUPS>BACKUP_CONFIG"`
}

// Backup is how the guest is backed up.
type Backup struct {
	Mode   string `xml:"MODE"` // FULL or INCREMENT
	Last   string `xml:"LAST_INCREMENT_ID"`
	Freeze string `xml:"FS_FREEZE"` // NONE, AGENT or SUSPEND
	// YES: another program reads the disks, by OneBEX
	Interactive string `xml:"INTERACTIVE"`
}

// Disk is one of its disks.
type Disk struct {
	ID           string `xml:"DISK_ID"`
	Size         string `xml:"SIZE"` // MiB, as is the next
	OriginalSize string `xml:"ORIGINAL_SIZE"`
	Format       string `xml:"FORMAT"`
	Driver       string `xml:"DRIVER"`
	FS           string `xml:"FS"`
	TM           string `xml:"TM_MAD"`
	AllowCopy    string `xml:"REFLINK_ALLOW_COPY"`
	Source       string `xml:"SOURCE"`
	Persistent   string `xml:"PERSISTENT"`
}

// HotplugResize is the state (LCM_STATE) in which the hypervisor makes a disk longer, and no driver.
const HotplugResize = "62"

// ParseVM reads a guest's XML.
func ParseVM(data []byte) (*VM, error) {
	vm := new(VM)
	if err := xml.Unmarshal(data, vm); err != nil {
		return nil, fault.Errorf(fault.ErrInvalid, "VM", "oned's description of the guest cannot be read: %w", err)
	}
	return vm, nil
}

// Disk is the one with a number, as the name of its file has it.
func (vm *VM) Disk(id int) (Disk, error) {
	for _, d := range vm.Disks {
		if d.ID == fmt.Sprint(id) {
			return d, nil
		}
	}
	return Disk{}, fault.Errorf(fault.ErrVolumeNotFound, fmt.Sprint(id), "guest %s has no disk %d by what oned says", OneLine(vm.ID), id)
}

// MakeFormat is the format of the disk.
func (d Disk) MakeFormat() string {
	if d.Format == "raw" || d.Format == "qcow2" {
		return d.Format
	}
	if d.Driver == "qcow2" {
		return "qcow2"
	}
	return "raw"
}

// Grown is the size in bytes that the disk is to have if that is another than its image's, else 0.
func (d Disk) Grown() (int64, error) {
	if d.Size == "" || d.OriginalSize == "" {
		return 0, nil
	}
	size, err := Bytes("SIZE", d.Size)
	if err != nil {
		return 0, err
	}
	original, err := Bytes("ORIGINAL_SIZE", d.OriginalSize)
	if err != nil || size <= original {
		return 0, err
	}
	return size, nil
}

// Bytes is the size that the disk is to have; 0 if oned does not say.
func (d Disk) Bytes() (int64, error) {
	if d.Size == "" {
		return 0, nil
	}
	return Bytes("SIZE", d.Size)
}

// Increment is the number of the increment that a backup is: 0 for a full one; -1 if there are to be none after it.
func (b Backup) Increment() (int, error) {
	if b.Mode != "INCREMENT" {
		return -1, nil
	}
	if b.Last == "" {
		return 0, nil
	}
	last, err := ParseID("LAST_INCREMENT_ID", b.Last)
	return last + 1, err
}
