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
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/rundir"
	"reflinksr/internal/smapi/serve"
)

// roots are where toolstacks look for plugins: XCP-ng and XenServer, then upstream.
var roots = []string{"/usr/libexec/xapi-storage-script", "/var/lib/xapi/storage-scripts"}

const binary = "reflinksr"

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
// and in one step: the toolstack watches them, and reads them once.
func Install(args []string, out io.Writer) error {
	root, _, err := installFlags("install", args)
	if err != nil {
		return err
	}
	unix.Umask(0o022) // what the toolstack must be able to read
	program, err := ourselves()
	if err != nil {
		return fmt.Errorf("reading this program: %w", err)
	}
	if err := makeDir(root); err != nil {
		return err
	}
	program, err = withTrailer(program)
	if err != nil {
		return err
	}
	// Beside the watched directories, on the same filesystem.
	temp, err := os.MkdirTemp(root, ".reflinksr-install-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	for _, d := range directories {
		staged := filepath.Join(temp, filepath.Base(d.path))
		if err := build(staged, program, links(d.calls())); err != nil {
			return err
		}
		target := filepath.Join(root, d.path)
		if err := makeDir(filepath.Dir(target)); err != nil {
			return err
		}
		if err := putInPlace(staged, target); err != nil {
			return err
		}
		fmt.Fprintf(out, "installed %s (%d calls)\n", target, len(links(d.calls()))-1)
	}
	return nil
}

// ourselves reads this program. Where /proc is not mounted, in an installer's chroot say,
// the kernel has told by which path it was started.
func ourselves() ([]byte, error) {
	path, err := os.Executable()
	if err != nil {
		started, e := startedAs()
		if e != nil {
			return nil, errors.Join(err, e)
		}
		path = started
	}
	return os.ReadFile(path) // #nosec G304 -- it is this program
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

// Uninstall takes the plugin directories away, unless SRs are attached.
func Uninstall(args []string, out io.Writer) error {
	root, force, err := installFlags("uninstall", args)
	if err != nil {
		return err
	}
	attached, err := noted()
	if err != nil && !force {
		return fmt.Errorf("whether SRs are attached cannot be told: %w; say --force if none is", err)
	}
	if len(attached) > 0 && !force {
		return fmt.Errorf("%d SRs are attached on this host, the first is %s: detach them first, or say --force", len(attached), attached[0])
	}
	temp, err := os.MkdirTemp(root, ".reflinksr-uninstall-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	for i := len(directories) - 1; i >= 0; i-- { // the volume plugin first
		target := filepath.Join(root, directories[i].path)
		err := os.Rename(target, filepath.Join(temp, filepath.Base(target)))
		switch {
		case errors.Is(err, os.ErrNotExist):
			fmt.Fprintf(out, "%s was not installed\n", target)
		case err != nil:
			return err
		default:
			fmt.Fprintf(out, "removed %s\n", target)
		}
	}
	fmt.Fprintln(out, "the toolstack forgets a removed plugin when it is restarted: xe-toolstack-restart")
	return nil
}

// noted lists the SRs that are attached by the names of their notes: also those whose note
// cannot be read, because it is damaged or because /proc is not there to do it by.
func noted() (uuids []string, err error) {
	dir, err := rundir.Look(rundir.Attached)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Names()
	for _, name := range names {
		if uuid, ok := strings.CutSuffix(name, ".json"); ok {
			uuids = append(uuids, uuid)
		}
	}
	return uuids, err
}

func installFlags(name string, args []string) (root string, force bool, err error) {
	flags := flag.NewFlagSet("reflinksr "+name, flag.ContinueOnError)
	flags.StringVar(&root, "root", "", "directory that holds volume/ and datapath/, which install makes if it is not there (default: the toolstack's)")
	if name == "uninstall" {
		flags.BoolVar(&force, "force", false, "also while SRs are attached")
	}
	if err := flags.Parse(args); err != nil {
		return "", false, err
	}
	if flags.NArg() > 0 {
		return "", false, fmt.Errorf("%s takes no argument %q", name, flags.Arg(0))
	}
	if root == "" {
		for _, r := range roots {
			if st, err := os.Stat(r); err == nil && st.IsDir() {
				root = r
				break
			}
		}
		if root == "" {
			return "", false, fmt.Errorf("neither %s nor %s is there: is this a host of the toolstack? say --root DIR", roots[0], roots[1])
		}
	}
	if root, err = filepath.Abs(root); err != nil {
		return "", false, err
	}
	st, err := os.Stat(root)
	switch {
	case errors.Is(err, os.ErrNotExist) && name == "install":
		return root, force, nil // it is made
	case err != nil:
		return "", false, err
	case !st.IsDir():
		return "", false, fmt.Errorf("%s is not a directory", root)
	}
	return root, force, nil
}
