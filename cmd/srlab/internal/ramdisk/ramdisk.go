// Package ramdisk writes the initial filesystem of a machine, in the newc format of
// Documentation/driver-api/early-userspace/buffer-format.rst.
package ramdisk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/cavaliergopher/cpio"

	"reflinksr/cmd/srlab/internal/debian"
)

// Writer writes one ramdisk.
type Writer struct {
	file *os.File
	buf  *bufio.Writer
	cpio *cpio.Writer
	have map[string]bool
	err  error
}

// Create begins a ramdisk. Errors are told by Close.
func Create(path string) (*Writer, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	buf := bufio.NewWriterSize(f, 1<<20)
	return &Writer{file: f, buf: buf, cpio: cpio.NewWriter(buf), have: map[string]bool{}}, nil
}

// Close ends it.
func (w *Writer) Close() error {
	return errors.Join(w.err, w.cpio.Close(), w.buf.Flush(), w.file.Close())
}

// Dir makes a directory and those above it.
func (w *Writer) Dir(name string) {
	if name == "." || name == "/" || w.have[name] {
		return
	}
	w.Dir(path.Dir(name))
	w.header(name, cpio.TypeDir|0o755, 0)
}

// Bytes makes a file.
func (w *Writer) Bytes(name string, mode os.FileMode, data []byte) {
	w.Dir(path.Dir(name))
	if w.header(name, cpio.TypeReg|cpio.FileMode(mode.Perm()), int64(len(data))) {
		_, err := w.cpio.Write(data)
		w.err = errors.Join(w.err, err)
	}
}

// File copies a file of this machine, with its mode.
func (w *Writer) File(name, from string) {
	f, err := os.Open(from)
	if err != nil {
		w.err = errors.Join(w.err, err)
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		w.err = errors.Join(w.err, err)
		return
	}
	w.Dir(path.Dir(name))
	if w.header(name, cpio.TypeReg|cpio.FileMode(st.Mode().Perm()), st.Size()) {
		_, err := io.Copy(w.cpio, f)
		w.err = errors.Join(w.err, err)
	}
}

// Program copies a program of a root to /usr/bin under another name, and its libraries
// to where the loader looks for them.
func (w *Writer) Program(root *debian.Root, program, as string) {
	from, err := root.Program(program)
	var libs []string
	if err == nil {
		libs, err = root.Libraries(from)
	}
	if err != nil {
		w.err = errors.Join(w.err, err)
		return
	}
	w.File(path.Join("usr/bin", as), from)
	w.Libraries(libs)
}

// Libraries copies shared libraries.
func (w *Writer) Libraries(libs []string) {
	for _, lib := range libs {
		dir := "lib/x86_64-linux-gnu"
		if filepath.Base(filepath.Dir(lib)) == "lib64" {
			dir = "lib64"
		}
		w.File(path.Join(dir, filepath.Base(lib)), lib)
	}
}

// Modules copies kernel modules to /modules, under names that sort in the order in
// which they are to be loaded.
func (w *Writer) Modules(root *debian.Root, names ...string) {
	files, err := root.Modules(names...)
	w.err = errors.Join(w.err, err)
	for i, file := range files {
		w.File(fmt.Sprintf("modules/%03s-%s", strconv.Itoa(i), filepath.Base(file)), file)
	}
}

// header begins an entry, and says whether it does: what is there already stays.
func (w *Writer) header(name string, mode cpio.FileMode, size int64) bool {
	if w.err != nil || w.have[name] {
		return false
	}
	w.have[name] = true
	w.err = w.cpio.WriteHeader(&cpio.Header{Name: name, Mode: mode, Size: size, Links: 1})
	return w.err == nil
}
