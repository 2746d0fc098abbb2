package plugin

import (
	"archive/zip"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/repository"
	"reflinksr/internal/smapi/serve"
)

// roots are where toolstacks look for plugins: XCP-ng and XenServer, then upstream.
var roots = []string{"/usr/libexec/xapi-storage-script", "/var/lib/xapi/storage-scripts"}

const binary = "reflinksr"

// server is the program that serves disks which are migrated here. It is in both directories, for both plugins tell what follows from it,
// and there is no need of it: without it nothing is migrated here.
const server = repository.ServerProgram

// directories are what an installation consists of, under its root. The datapath
// comes first: a volume plugin's URIs must find theirs.
var directories = []struct {
	path  string
	calls func() []serve.Handler
}{
	{"datapath/" + datapathPlugin, datapathCalls},
	{"volume/" + volumePlugin, volumeCalls},
}

// Directories are where an installation below root has the executables of the two plugins.
func Directories(root string) (volume, datapath string) {
	return filepath.Join(root, "volume", volumePlugin), filepath.Join(root, "datapath", datapathPlugin)
}

// Install puts the two plugin directories in place under the root, each complete
// and in one step: the toolstack watches them, and reads them once. If that fails, what was installed before is as it was.
func Install(args []string, out io.Writer) error {
	root, how, err := installFlags("install", args)
	if err != nil {
		return err
	}
	if how.driver {
		return installDriver(root, out)
	}
	self, _, err := ourselves()
	if err != nil {
		return fmt.Errorf("reading this program: %w", err)
	}
	beside, err := os.ReadFile(filepath.Join(filepath.Dir(self), server)) // #nosec G304 -- it came with this program
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("reading the program that serves disks: %w", err)
	}
	return InstallWith(root, beside, out)
}

// InstallWith is Install with the program that serves disks; nil: there is none.
func InstallWith(root string, beside []byte, out io.Writer) error {
	unix.Umask(0o022) // what the toolstack must be able to read
	self, program, err := ourselves()
	if err != nil {
		return fmt.Errorf("reading this program: %w", err)
	}
	if program, err = withTrailer(program); err != nil {
		return err
	}
	if err := installAll(root, program, beside); err != nil {
		remedy := "put that right"
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			remedy = fmt.Sprintf("free %d MiB there", (len(directories)*len(program)+len(beside))>>20+1)
		}
		return fmt.Errorf("%w; nothing that is installed below %s has changed: %s, then run: %s install --root %s", err, root, remedy, self, root)
	}
	for _, d := range directories {
		fmt.Fprintf(out, "installed %s (%d calls)\n", filepath.Join(root, d.path), len(links(d.calls(), beside != nil))-1)
	}
	if beside == nil {
		fmt.Fprintf(out, "%s is not beside this program: disks cannot be migrated here\n", server)
	}
	fmt.Fprintln(out, "the toolstack takes a new version into use when it is restarted: xe-toolstack-restart")
	return nil
}

// installAll makes both directories before it puts the first in place, so that what fails for want of
// space does so before anything has changed. server is nil if there is none.
func installAll(root string, program, server []byte) error {
	if err := makeDir(root); err != nil {
		return err
	}
	unlock, err := lockRoot(root)
	if err != nil {
		return err
	}
	defer unlock()
	// Beside the watched directories: on the same filesystem, and with the security label of such a place.
	temp, err := os.MkdirTemp(root, unfinished)
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	// Of the toolstack's own place: elsewhere no xapi looks.
	if _, err := os.Lstat(filepath.Join("/", driversDir, driver)); err == nil && slices.Contains(roots, root) {
		return fmt.Errorf("the driver for SMAPIv1 is installed in %s: xapi can have one driver of the type %s; take that away first: %s uninstall --smapiv1", filepath.Join("/", driversDir), driverType, itself())
	}
	for _, d := range directories {
		if err := mayReplace(filepath.Join(root, d.path)); err != nil {
			return err
		}
		if err := build(filepath.Join(temp, filepath.Base(d.path)), program, links(d.calls(), server != nil)); err != nil {
			return err
		}
	}
	if server != nil {
		if err := addServer(temp, server); err != nil {
			return err
		}
	}
	for i, d := range directories {
		staged, target := filepath.Join(temp, filepath.Base(d.path)), filepath.Join(root, d.path)
		err := makeDir(filepath.Dir(target))
		if err == nil {
			err = putInPlace(staged, target)
		}
		if err != nil {
			for _, done := range directories[:i] {
				err = errors.Join(err, takeBack(filepath.Join(temp, filepath.Base(done.path)), filepath.Join(root, done.path)))
			}
			return err
		}
	}
	return nil
}

// takeBack undoes putInPlace: staged is what was in the target's place before, if anything was.
func takeBack(staged, target string) error {
	if _, err := os.Lstat(staged); err == nil {
		return putInPlace(staged, target)
	}
	return os.Rename(target, staged)
}

// mayReplace refuses a directory that is another project's, of the same name.
func mayReplace(target string) error {
	is, err := ours(target)
	if err == nil && !is {
		err = fmt.Errorf("%s is another plugin's, or has files of one: its calls are not all links to a %s in it; remove that plugin first", target, binary)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// ours says whether a plugin directory is one of ours: the program is in it, a link to it for the call that every plugin
// has, and no other program but that which serves disks: somebody would have put it over one of ours. An empty one is nobody's, so it may be.
func ours(dir string) (bool, error) {
	st, err := os.Lstat(dir)
	if err != nil || !st.IsDir() {
		return false, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		return err == nil, err
	}
	program, err := os.Lstat(filepath.Join(dir, binary))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil || !program.Mode().IsRegular() {
		return false, err
	}
	for _, e := range entries {
		st, err := e.Info()
		if err == nil && e.Name() != binary && e.Name() != server && st.Mode().IsRegular() && st.Size() > 0 {
			return false, nil
		}
	}
	to, _ := os.Readlink(filepath.Join(dir, "Plugin.query"))
	return to == binary, nil
}

// unfinished begins the names of what is not, or not any more, a plugin directory: in the root, which nobody watches.
const unfinished = ".reflinksr-install-"

// lockRoot keeps other installations out of the root, and removes what one that was killed has left there.
func lockRoot(root string) (unlock func(), err error) {
	dir, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	if err := dirfs.Flock(dir, dirfs.Exclusive, time.Now().Add(dirfs.LockTimeout), false); err != nil {
		return nil, errors.Join(dirfs.LockError(dir, root, err), dir.Close())
	}
	entries, err := os.ReadDir(root)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), unfinished) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(root, e.Name())))
		}
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return func() { dir.Close() }, nil
}

// ourselves reads this program, and tells where it is. Where /proc is not mounted, in an installer's chroot say,
// the kernel has told by which path it was started.
func ourselves() (path string, program []byte, err error) {
	path, err = os.Executable()
	if err != nil {
		started, e := startedAs()
		if e != nil {
			return "", nil, errors.Join(err, e)
		}
		path = started
	}
	program, err = os.ReadFile(path) // #nosec G304 -- it is this program
	return path, program, err
}

// startedAs is the path that this process was executed by (getauxval(3), AT_EXECFN).
func startedAs() (string, error) {
	const atExecfn = 31
	vector, err := unix.Auxv()
	for _, entry := range vector {
		if entry[0] == atExecfn {
			// The kernel keeps the text at the top of the stack as long as we run.
			return unix.BytePtrToString(*(**byte)(unsafe.Pointer(&entry[1]))), nil // #nosec G103
		}
	}
	return "", errors.Join(err, errors.New("the kernel does not tell how it was started"))
}

// makeDir makes a directory that is not there, and those above it, durably.
func makeDir(path string) error {
	st, err := os.Stat(path)
	switch {
	case err == nil && st.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s is not a directory", path)
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	// #nosec G301 -- programs are for everybody to see
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// putInPlace moves a directory to its place, exchanging it with what is there.
func putInPlace(staged, target string) error {
	err := unix.Renameat2(unix.AT_FDCWD, staged, unix.AT_FDCWD, target, unix.RENAME_EXCHANGE)
	if err == unix.ENOENT {
		err = os.Rename(staged, target)
	}
	if err != nil {
		return fmt.Errorf("putting %s in place: %w", target, err)
	}
	return syncDir(filepath.Dir(target))
}

func build(dir string, program []byte, names []string) error {
	// #nosec G301 -- programs are for everybody to see
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := writeProgram(filepath.Join(dir, binary), program); err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Symlink(binary, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	// #nosec G302 -- programs are for everybody to see, whatever the umask
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	return syncDir(dir)
}

// addServer puts the program that serves disks into the directories that are being made below temp, where it is one file.
func addServer(temp string, program []byte) error {
	first := ""
	for _, d := range directories {
		dir := filepath.Join(temp, filepath.Base(d.path))
		path := filepath.Join(dir, server)
		var err error
		if first == "" {
			first, err = path, writeProgram(path, program)
		} else {
			err = os.Link(first, path)
		}
		if err = errors.Join(err, syncDir(dir)); err != nil {
			return err
		}
	}
	return nil
}

func writeProgram(path string, program []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755) // #nosec G302 -- a program
	if err != nil {
		return err
	}
	_, err = f.Write(program)
	return errors.Join(err, f.Chmod(0o755), f.Sync(), f.Close())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// withTrailer appends a zip archive to the program, once. When tracing is on,
// the toolstack runs plugins by Python's runpy, which would fail on a program of
// ours, but runs a zip at the end of any file; the kernel does not look there.
func withTrailer(program []byte) ([]byte, error) {
	if _, err := zip.NewReader(bytes.NewReader(program), int64(len(program))); err == nil {
		return program, nil
	}
	b := bytes.NewBuffer(program)
	w := zip.NewWriter(b)
	w.SetOffset(int64(len(program)))
	f, err := w.Create("__main__.py")
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(f, "import os, sys\nos.execv(sys.argv[0], sys.argv)\n"); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// installing is how something is installed or removed.
type installing struct {
	force  bool
	driver bool // for SMAPIv1, not the plugins
}

func installFlags(name string, args []string) (root string, how installing, err error) {
	none := how
	flags := flag.NewFlagSet("reflinksr "+name, flag.ContinueOnError)
	flags.StringVar(&root, "root", "", "directory that holds volume/ and datapath/, which install makes if it is not there (default: the toolstack's)")
	flags.BoolVar(&how.driver, "smapiv1", false, "the driver for the toolstack's older interface instead; root is then that of the host, by default /")
	if name == "uninstall" {
		flags.BoolVar(&how.force, "force", false, "also while SRs are attached")
	}
	if err := flags.Parse(args); err != nil {
		return "", none, err
	}
	if flags.NArg() > 0 {
		return "", none, fmt.Errorf("%s takes no argument %q", name, flags.Arg(0))
	}
	if how.driver {
		if root == "" {
			root = "/"
		}
		root, err = filepath.Abs(root)
		return root, how, err
	}
	if root == "" {
		for _, r := range roots {
			if st, err := os.Stat(r); err == nil && st.IsDir() {
				root = r
				break
			}
		}
		if root == "" {
			return "", none, fmt.Errorf("neither %s nor %s is there: is this a host of the toolstack? say --root DIR", roots[0], roots[1])
		}
	}
	if root, err = filepath.Abs(root); err != nil {
		return "", none, err
	}
	st, err := os.Stat(root)
	switch {
	case errors.Is(err, os.ErrNotExist) && name == "install":
		return root, how, nil // it is made
	case err != nil:
		return "", none, err
	case !st.IsDir():
		return "", none, fmt.Errorf("%s is not a directory", root)
	}
	return root, how, nil
}
