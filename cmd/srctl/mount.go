package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"reflinksr/internal/repository"
)

// looker is what srctl mount is called among those that have volumes active.
const looker = "srctl-mount"

func (s *session) mount() *cobra.Command {
	return s.takes(s.answersJSON(command("mount SR SNAPSHOT DIRECTORY", "show the files of a snapshot, to restore some",
		`mount makes the filesystems of a snapshot, one in each partition or one on the whole
disk, readable below a directory: DIRECTORY/1 is the first partition, DIRECTORY/0
the whole disk. It tells each on a line: where it is, what it is, its size. What it cannot
mount (swap, LVM, encrypted ones) it says. What is mounted is a copy that shares
all blocks and is thrown away in the end: a journal is replayed there, and the snapshot
stays as it is. Programs and devices are no such things there, and a symbolic link is
not followed (since Linux 5.10), for a guest's could lead to this host's files. But the kernel
reads what a guest wrote, so do not mount what a guest may have made to harm you.

The snapshot is in use until srctl umount.`,
		`  SNAPSHOT=$(srctl snapshot tank web)
  srctl mount tank $SNAPSHOT /mnt
  cp /mnt/1/etc/fstab .
  srctl umount tank $SNAPSHOT`, 3, 3, s.mountVolume)), anSR, aVolume, aFile)
}

func (s *session) umount() *cobra.Command {
	return s.takes(s.answersJSON(command("umount SR SNAPSHOT", "end what mount began",
		`umount unmounts what mount has mounted of a snapshot, removes the directories that it
made, and gives the snapshot back.`,
		`  srctl umount tank $SNAPSHOT`, 2, 2, s.one(func(ctx context.Context, v repository.Volume) error {
			device, err := v.DeviceHere(ctx, looker)
			if err == nil && device == "" {
				err = fmt.Errorf("volume %s is not mounted by srctl mount", v.Key)
			}
			if err == nil {
				err = unmount(device)
			}
			if err == nil {
				err = v.DetachHere(ctx, looker)
			}
			if err != nil || !s.json {
				return err
			}
			return printJSON(s.out, map[string]string{"key": string(v.Key), "path": s.pathOf(v)})
		}))), anSR, aVolume)
}

// part is a part of a disk, in bytes, and the filesystem in it.
type part struct {
	Number int    `json:"number"` // 0: the whole disk
	Path   string `json:"path"`   // where it is mounted
	Type   string `json:"type"`
	Start  int64  `json:"start"`
	Size   int64  `json:"size"`
	uuid   string
}

func (s *session) mountVolume(ctx context.Context, args []string) (err error) {
	v, err := s.volumeAt(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	st, err := v.Stat(ctx)
	if err != nil {
		return err
	}
	if st.ReadWrite {
		return fmt.Errorf("volume %s is writable, and what is mounted must not change: take a snapshot of it, and mount that", v.Key)
	}
	dir, err := filepath.Abs(args[2])
	if err != nil {
		return err
	}
	if err := emptied(dir); err != nil {
		return err
	}
	for _, program := range []string{"mount", "losetup", "blockdev", "blkid", "partx"} {
		if !has(program) {
			return fmt.Errorf("the program %s is missing", program)
		}
	}
	device, err := v.AttachCopyHere(ctx, looker)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unmount(device), v.DetachHere(ctx, looker))
		}
	}()
	parts, err := partsOf(ctx, device, st.VirtualSize)
	if err != nil {
		return err
	}
	mounted, left := []part{}, []string{}
	for _, p := range parts {
		if err := p.mount(ctx, device, dir); err != nil {
			left = append(left, fmt.Sprintf("part %d: %v", p.Number, err))
			continue
		}
		mounted = append(mounted, p)
	}
	if len(mounted) == 0 {
		return fmt.Errorf("nothing on volume %s can be mounted: %s", v.Key, strings.Join(append(left, ""), "; "))
	}
	for _, why := range left {
		fmt.Fprintf(messages, "not mounted: %s\n", printable(why))
	}
	if s.json {
		return printJSON(s.out, mounted)
	}
	for _, p := range mounted {
		if _, err := fmt.Fprintf(s.out, "%s  %s, %s\n", oneLine(p.Path), p.Type, s.bytes(p.Size)); err != nil {
			return err
		}
	}
	return nil
}

// emptied refuses a directory with anything in it, but for empty directories of parts, which a mount that was killed has left.
func emptied(dir string) error {
	there, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range there {
		_, err := strconv.ParseUint(entry.Name(), 10, 8)
		if err == nil {
			err = unix.Rmdir(filepath.Join(dir, entry.Name()))
		}
		if err != nil {
			return fmt.Errorf("%s is not empty: give an empty directory", dir)
		}
	}
	return nil
}

// partsOf lists the partitions of a disk: itself, if it has none. What stands in the table is the guest's.
func partsOf(ctx context.Context, device string, size int64) (parts []part, err error) {
	whole := part{Size: size}
	if whole.Type, whole.uuid = whole.look(ctx, device); whole.Type != "" {
		return []part{whole}, nil
	}
	out, err := exec.CommandContext(ctx, "partx", "--show", "--noheadings", "--output", "NR,START,SECTORS", device).Output() // #nosec G204 -- a device of ours
	if parts := parsePartitions(string(out), size); err == nil && len(parts) > 0 {
		return parts, nil
	}
	return nil, fmt.Errorf("%s has neither a filesystem nor a table of partitions that is known here", device)
}

// mostParts is how many partitions are looked at.
const mostParts = 128

// parsePartitions reads what partx tells: number, start and length, in sectors of 512 bytes.
func parsePartitions(table string, size int64) (parts []part) {
	for line := range strings.Lines(table) {
		var number int
		var start, sectors int64
		if n, err := fmt.Sscan(line, &number, &start, &sectors); n != 3 || err != nil || len(parts) == mostParts {
			continue
		}
		if most := size / 512; number <= 0 || start <= 0 || sectors <= 0 || start > most || sectors > most-start {
			continue // it is not on the disk
		}
		parts = append(parts, part{Number: number, Start: start * 512, Size: sectors * 512})
	}
	return parts
}

// look is what blkid finds in a part: "" if nothing that it knows.
func (p part) look(ctx context.Context, device string) (kind, uuid string) {
	out, err := exec.CommandContext(ctx, "blkid", "-p", "-u", "filesystem,crypto,raid,other", "-O", fmt.Sprint(p.Start), "-S", fmt.Sprint(p.Size), "-o", "export", device).Output() // #nosec G204 -- a device of ours
	if err != nil {
		return "", ""
	}
	for line := range strings.Lines(string(out)) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), "="); name {
		case "TYPE":
			kind = value
		case "UUID":
			uuid = value
		}
	}
	return kind, uuid
}

// options are what each filesystem that is mounted wants beside the others. That of a snapshot of an XFS has the UUID of that. An ext4 says
// itself what its errors do to the kernel, and may say that they are to stop it.
var options = map[string]string{
	"ext2": ",errors=remount-ro", "ext3": ",errors=remount-ro", "ext4": ",errors=remount-ro", "xfs": ",nouuid", "btrfs": "", "vfat": "", "ntfs": "", "exfat": "", "iso9660": "", "squashfs": "", "erofs": "",
}

// mount mounts a part below a directory.
func (p *part) mount(ctx context.Context, device, dir string) error {
	if p.Type == "" {
		p.Type, p.uuid = p.look(ctx, device)
	}
	option, known := options[p.Type]
	switch {
	case p.Type == "":
		return errors.New("it holds nothing that is known here")
	case !known:
		return fmt.Errorf("%.40q is nothing that can be mounted so", p.Type)
	}
	if _, err := os.Stat("/sys/fs/btrfs/" + filepath.Base(p.uuid)); p.Type == "btrfs" && err == nil {
		return fmt.Errorf("a btrfs with the same UUID %.40q is mounted here, and the kernel would take the one for the other", p.uuid)
	}
	p.Path = filepath.Join(dir, strconv.Itoa(p.Number))
	if err := os.Mkdir(p.Path, 0o700); err != nil {
		return err
	}
	loop, err := told(ctx, "losetup", "--find", "--show", "--offset", fmt.Sprint(p.Start), "--sizelimit", fmt.Sprint(p.Size), device)
	if err == nil {
		// A device that cannot be written to would keep the journal from being replayed: files would be missing. Its number may still
		// be marked so for whoever had it before.
		if _, err = told(ctx, "blockdev", "--setrw", loop); err == nil {
			_, err = told(ctx, "mount", "-t", p.Type, "-o", "ro,nodev,nosuid,noexec"+option, loop, p.Path)
		}
		if err == nil {
			if err = followNoLinks(p.Path); err != nil {
				err = errors.Join(err, unix.Unmount(p.Path, unix.UMOUNT_NOFOLLOW))
			}
		}
		if err != nil {
			_, e := told(ctx, "losetup", "--detach", loop)
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		os.Remove(p.Path)
	}
	return err
}

// followNoLinks has symbolic links below a mount point lead nowhere, also not to files of this host: cp -r and the like follow those that
// they are given. Kernels before 5.10 ignore the flag, and mount(8) of that time does not know its name.
func followNoLinks(path string) error {
	if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NOSYMFOLLOW, ""); err != nil {
		return fmt.Errorf("remounting %s so that no link is followed: %w", oneLine(path), err)
	}
	return nil
}

// told runs a program for what it prints.
func told(ctx context.Context, name string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	c := exec.CommandContext(ctx, name, args...) // #nosec G204 -- names and arguments are ours
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, printable(strings.TrimSpace(errs.String())))
	}
	return strings.TrimSpace(out.String()), nil
}

// unmount unmounts all that is mounted of parts of a device, and removes the directories.
func unmount(device string) error {
	loops, err := onTopOf(device)
	if err != nil {
		return err
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(table)) {
		before, after, ok := strings.Cut(line, " - ")
		fields, of := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(of) < 2 || !loops[of[1]] {
			continue
		}
		at := unescaped.Replace(fields[4])
		if err := unix.Unmount(at, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmounting %s: %w: whoever uses it has to end first", oneLine(at), err)
		}
		os.Remove(at) // else it was no directory of ours
	}
	for loop := range loops {
		if _, err := told(context.Background(), "losetup", "--detach", loop); err != nil {
			return err
		}
	}
	for range 100 { // they go in a moment
		if loops, err = onTopOf(device); err != nil || len(loops) == 0 {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("%s is still in use", device)
}

// unescaped makes a path of what mountinfo writes for one.
var unescaped = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// onTopOf lists the loop devices that are made of a device.
func onTopOf(device string) (map[string]bool, error) {
	notes, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	loops := map[string]bool{}
	for _, note := range notes {
		if file, err := os.ReadFile(note); err == nil && strings.TrimSpace(string(file)) == device { // else it is gone
			loops["/dev/"+strings.Split(note, "/")[3]] = true
		}
	}
	return loops, nil
}
