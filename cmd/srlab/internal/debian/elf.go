package debian

import (
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// loader starts programs that have shared libraries.
const loader = "ld-linux-x86-64.so.2"

// Command prepares a program of the root to be run on this machine, with the root's own
// loader and libraries.
func (r *Root) Command(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	path, err := r.Program(name)
	if err != nil {
		return nil, err
	}
	dirs := map[string]bool{}
	for _, lib := range r.files {
		dirs[filepath.Dir(lib)] = true
	}
	c := exec.CommandContext(ctx, r.files[loader], append([]string{"--library-path", strings.Join(sorted(dirs), ":"), path}, args...)...)
	// Parts of QEMU are loaded when they are needed.
	c.Env = append(os.Environ(), "QEMU_MODULE_DIR="+filepath.Join(r.Dir, "usr/lib/x86_64-linux-gnu/qemu"))
	return c, nil
}

// Libraries lists the shared libraries that a program needs, and those that they need,
// and the loader. Of a static program there are none.
func (r *Root) Libraries(program string) ([]string, error) {
	found := map[string]bool{}
	if err := r.needed(program, found); err != nil {
		return nil, err
	}
	return sorted(found), nil
}

func (r *Root) needed(path string, found map[string]bool) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	names, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(names) > 0 {
		names = append(names, loader)
	}
	for _, name := range names {
		lib := r.files[name]
		if lib == "" {
			return fmt.Errorf("%s needs %s, which is in no package", path, name)
		}
		if found[lib] {
			continue
		}
		found[lib] = true
		if err := r.needed(lib, found); err != nil {
			return err
		}
	}
	return nil
}

// Modules lists the files of kernel modules and of those that they depend on, each
// after all that it needs. Of a module that is built into the kernel there is no file,
// and it is left out.
func (r *Root) Modules(names ...string) ([]string, error) {
	dir, err := r.One("lib/modules/*")
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	var order []string
	done := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		if done[name] {
			return nil
		}
		done[name] = true
		path := files[name]
		if path == "" {
			if bytes.Contains(bytes.ReplaceAll(builtin, []byte("-"), []byte("_")), []byte("/"+name+".ko\n")) {
				return nil
			}
			return fmt.Errorf("the kernel's package has no module %s", name)
		}
		depends, err := dependencies(path)
		if err != nil {
			return err
		}
		for _, d := range depends {
			if err := add(d); err != nil {
				return err
			}
		}
		order = append(order, path)
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// dependencies reads what a module says it depends on (modinfo(8): depends).
func dependencies(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("%s is no kernel module", path)
	}
	data, err := section.Data()
	if err != nil {
		return nil, err
	}
	for entry := range strings.SplitSeq(string(data), "\x00") {
		if list, ok := strings.CutPrefix(entry, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}

// Kernel writes the kernel as an ELF file, not compressed: an emulated machine takes
// many seconds to do that.
func (r *Root) Kernel(ctx context.Context, to string) error {
	path, err := r.One("boot/vmlinuz-*")
	if err != nil {
		return err
	}
	image, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	payload, err := payload(image)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	c, err := r.Command(ctx, "xz", "--decompress", "--stdout", "--single-stream")
	if err != nil {
		return err
	}
	return write(to, func(w io.Writer) error {
		var complaint bytes.Buffer
		c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(payload), w, &complaint
		if err := c.Run(); err != nil {
			return fmt.Errorf("xz: %w: %s", err, strings.TrimSpace(complaint.String()))
		}
		return nil
	})
}

// payload finds the compressed kernel in a bzImage (Documentation/arch/x86/boot.rst).
func payload(image []byte) ([]byte, error) {
	const setupSects, header, version, offset, length = 0x1f1, 0x202, 0x206, 0x248, 0x24c
	if len(image) < length+4 || string(image[header:header+4]) != "HdrS" || binary.LittleEndian.Uint16(image[version:]) < 0x208 {
		return nil, fmt.Errorf("it is no bzImage of boot protocol 2.08 or newer")
	}
	from := (int64(image[setupSects])+1)*512 + int64(binary.LittleEndian.Uint32(image[offset:]))
	to := from + int64(binary.LittleEndian.Uint32(image[length:]))
	if from >= to || to > int64(len(image)) {
		return nil, fmt.Errorf("its payload, from %d to %d, is not within its %d bytes", from, to, len(image))
	}
	if !bytes.HasPrefix(image[from:to], []byte("\xfd7zXZ\x00")) {
		return nil, fmt.Errorf("it is not compressed by xz, and others are not known here")
	}
	return image[from:to], nil
}

// Hypervisor writes Xen as an ELF file.
func (r *Root) Hypervisor(ctx context.Context, to string) error {
	path, err := r.One("boot/xen-*-amd64.gz")
	if err != nil {
		return err
	}
	packed, err := os.Open(path)
	if err != nil {
		return err
	}
	defer packed.Close()
	data, err := gzip.NewReader(packed)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return write(to, func(w io.Writer) error {
		_, err := io.Copy(w, data) // #nosec G110 -- apt has verified the package
		return err
	})
}

// write makes a file that is there whole or not at all.
func write(path string, do func(io.Writer) error) error {
	f, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	if err := errors.Join(do(f), f.Close()); err != nil {
		os.Remove(f.Name())
		return err
	}
	return os.Rename(f.Name(), path)
}
