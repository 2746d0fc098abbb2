package main

import (
	"context"

	"reflinksr/cmd/srlab/internal/debian"
	"reflinksr/cmd/srlab/internal/ramdisk"
)

// oldKernel is the oldest Linux that can be had and booted here, somewhat older than the oldest that hosts have, 4.19. It is
// Ubuntu's: Debian's archive keeps no kernel that old where a mirror has it.
var oldKernel = debian.Pinned{
	Source: "deb http://archive.ubuntu.com/ubuntu bionic-updates main",
	Packages: map[string]string{
		"linux-image-unsigned-4.18.0-25-generic=4.18.0-25.26~18.04.1": "48255bba33b59127b69a9b8fdca27a25187bffd151ed0762bf7205b23474a08a",
		"linux-modules-4.18.0-25-generic=4.18.0-25.26~18.04.1":        "d21662c73ba590cce15b4360a282120d7f12b0c2febb72dd655ffe2ee92d7eee",
	},
}

var oldModules = []string{"virtio_pci", "virtio_blk", "virtio_console", "loop", "crc32c_generic", "libcrc32c", "btrfs", "xfs", "ext4"}

// addOld makes what a machine with that kernel boots, once a scenario wants one.
func (l *lab) addOld(ctx context.Context) error {
	i := l.images
	if i.old != "" {
		return nil
	}
	root, err := debian.FetchPinned(ctx, l.cache, oldKernel, l.tell)
	if err != nil {
		return err
	}
	kernel, err := root.PackedKernel()
	if err != nil {
		return err
	}
	err = i.write("old", func(w *ramdisk.Writer) {
		l.fillMachine(i, w)
		w.Modules(root, oldModules...)
		for _, program := range []string{"mkfs.xfs", "xfs_repair"} {
			w.Program(i.root, program, program)
		}
	})
	if err == nil {
		i.old = kernel
	}
	return err
}
