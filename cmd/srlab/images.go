package main

import (
	"context"
	"debug/elf"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"reflinksr/cmd/srlab/internal/debian"
	"reflinksr/cmd/srlab/internal/guest"
	"reflinksr/cmd/srlab/internal/ramdisk"
	"reflinksr/internal/repository"
)

// packages are what the lab is made of; what they depend on comes along.
var packages = []string{
	"qemu-system-x86", "linux-image-amd64", "xen-hypervisor-4.17-amd64", "xen-utils-4.17", "xenstore-utils",
	"busybox-static", "xz-utils", "btrfs-progs", "xfsprogs", "e2fsprogs", "fdisk",
	"nfs-kernel-server", "libc-bin", "ocfs2-tools", "sqlite3",
}

// programs are scripts of the machines', by which scenarios bring up what an operator
// would.
//
//go:embed programs
var programs embed.FS

// images are what machines boot.
type images struct {
	root       *debian.Root
	hypervisor string
	kernel     string
	old        string            // an older one; "" until a machine has it
	ramdisks   map[string]string // by role
	self       string            // this program
	server     string            // what serves disks that migrate
	dir        string            // for what is made for this run alone
}

// Modules of each role. A filesystem asks for its checksums by name, and nothing here
// would load them for it: they are named too.
var (
	machineModules = []string{
		"virtio_pci", "virtio_blk", "virtio_console", "loop", "crc32c_generic", "libcrc32c", "xxhash_generic", "sha256_generic", "blake2b_generic",
		"btrfs", "xfs", "ext4",
	}
	xenModules   = []string{"virtio_net", "xen_evtchn", "xenfs", "xen_privcmd", "xen_gntdev", "xen_gntalloc", "xen_blkback"}
	guestModules = []string{"xen_blkfront", "crc32c_generic", "libcrc32c", "ext4"}
	nfsModules   = []string{"virtio_net", "nfsd", "nfs", "nfsv4"}
	ocfs2Modules = []string{"virtio_net", "configfs", "ocfs2_stack_o2cb", "ocfs2_dlm", "ocfs2"}
)

// buildImages makes what machines boot: out of the packages in the cache, and of this
// very program with the plugin to be tried, in dir.
func (l *lab) buildImages(ctx context.Context, dir string) (*images, error) {
	root, err := debian.Fetch(ctx, l.cache, packages, l.tell)
	if err != nil {
		return nil, err
	}
	i := &images{root: root, hypervisor: root.Dir + ".xen", kernel: root.Dir + ".vmlinux", ramdisks: map[string]string{}}
	for file, unpack := range map[string]func(context.Context, string) error{i.hypervisor: root.Hypervisor, i.kernel: root.Kernel} {
		if _, err := os.Stat(file); err != nil {
			l.tell("unpacking %s", filepath.Base(file))
			if err := unpack(ctx, file); err != nil {
				return nil, err
			}
		}
	}
	l.tell("building the machines' ramdisks")
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := static(self); err != nil {
		return nil, err
	}
	i.self, i.dir = self, dir
	if l.plugin == "" {
		l.plugin = self
	}
	if l.srctl == "" {
		l.srctl = filepath.Join(dir, "srctl")
		c := exec.CommandContext(ctx, "go", "build", "-o", l.srctl, "reflinksr/cmd/srctl") // #nosec G204 -- into a directory of ours
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building srctl (or name one with -srctl): %w: %s", err, out)
		}
	}
	// What serves disks that migrate is beside the plugin, or this program as well.
	i.server = filepath.Join(filepath.Dir(l.plugin), repository.ServerProgram)
	if _, err := os.Stat(i.server); err != nil {
		i.server = self
	}
	if err := errors.Join(static(l.plugin), static(l.srctl), static(i.server)); err != nil {
		return nil, err
	}
	write := func(role string, fill func(*ramdisk.Writer)) {
		if err == nil {
			err = i.write(role, fill)
		}
	}
	write("guest", func(w *ramdisk.Writer) {
		w.Modules(root, guestModules...)
		for _, program := range []string{"sfdisk", "mkfs.ext4", "e2fsck", "resize2fs", "sqlite3"} {
			w.Program(root, program, program)
		}
	})
	machine := func(w *ramdisk.Writer, modules ...string) {
		l.fillMachine(i, w)
		w.Modules(root, append(machineModules, modules...)...)
	}
	write("xen", func(w *ramdisk.Writer) {
		machine(w, xenModules...)
		for _, program := range []string{"xl", "xenstored", "xenconsoled", "xen-init-dom0", "libxl-save-helper"} {
			w.Program(root, program, program)
		}
		gcc, e := root.One("lib/x86_64-linux-gnu/libgcc_s.so.1") // pthread_cancel loads it
		err = errors.Join(err, e)
		w.Libraries([]string{gcc})
		w.Bytes("etc/xen/xl.conf", 0o644, []byte("autoballoon=\"off\"\n"))
		w.File(guest.GuestKernel, i.kernel)
		w.File(guest.GuestRamdisk, i.ramdisks["guest"])
	})
	write("host", func(w *ramdisk.Writer) {
		machine(w)
		w.Program(root, "mkfs.xfs", "mkfs.xfs")
	})
	write("nfs", func(w *ramdisk.Writer) {
		machine(w, nfsModules...)
		for _, program := range []string{"exportfs", "nfsdcld", "rpc.mountd", "rpc.nfsd", "mount.nfs4", "getent"} {
			w.Program(root, program, program)
		}
		for _, file := range []string{"netconfig", "protocols", "services"} {
			w.File("etc/"+file, filepath.Join(root.Dir, "etc", file))
		}
		err = errors.Join(err, script(w, "export-nfs"), script(w, "contend"), script(w, "repeat"))
	})
	write("ocfs2", func(w *ramdisk.Writer) {
		machine(w, ocfs2Modules...)
		for _, program := range []string{"mkfs.ocfs2", "mount.ocfs2", "o2cb"} {
			w.Program(root, program, program)
		}
		w.Program(root, "ocfs2_hb_ctl", "../../sbin/ocfs2_hb_ctl") // the kernel starts it
		err = errors.Join(err, script(w, "join-ocfs2"), script(w, "contend"), script(w, "repeat"))
	})
	return i, err
}

// write makes the ramdisk of a role.
func (i *images) write(role string, fill func(*ramdisk.Writer)) error {
	file := filepath.Join(i.dir, role+".cpio")
	w, err := ramdisk.Create(file)
	if err != nil {
		return err
	}
	w.File("init", i.self)
	w.Program(i.root, "busybox", "busybox")
	fill(w)
	i.ramdisks[role] = file
	return w.Close()
}

// fillMachine puts in what every machine has that is no guest.
func (l *lab) fillMachine(i *images, w *ramdisk.Writer) {
	w.File(guest.Plugin, l.plugin)
	w.File(filepath.Join(filepath.Dir(guest.Plugin), repository.ServerProgram), i.server)
	w.File("usr/bin/srctl", l.srctl)
	for program, as := range map[string]string{"mkfs.ext4": "mkfs.ext4", "e2fsck": "e2fsck", "cp": "gcp"} {
		w.Program(i.root, program, as)
	}
}

// script copies one of programs.
func script(w *ramdisk.Writer, name string) error {
	data, err := programs.ReadFile("programs/" + name)
	if err == nil {
		w.Bytes("usr/bin/"+name, 0o755, data)
	}
	return err
}

// static refuses a program that needs libraries: the machines have none for it.
func static(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is not a static program, and the lab's machines have no libraries for it: build it with CGO_ENABLED=0", path)
		}
	}
	return nil
}
