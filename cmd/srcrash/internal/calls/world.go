package calls

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/datapath"
	"reflinksr/internal/layout"
	"reflinksr/internal/rundir"
	"reflinksr/internal/smapi"
	"reflinksr/sr"
)

// Host is where calls are made: a plugin, and the directory at which the filesystem
// under test is mounted.
type Host struct {
	Plugin rig.Plugin
	Dir    string
	Boot   string // a file whose contents are the kernel's boot id
}

// NewHost makes this process's host: it needs a mount namespace of its own. Its
// filesystem will be mounted at dir/mnt.
func NewHost(p rig.Plugin, dir string) (*Host, error) {
	if err := rig.PrivateHost(); err != nil {
		return nil, err
	}
	h := &Host{Plugin: p, Dir: filepath.Join(dir, "mnt"), Boot: filepath.Join(dir, "boot_id")}
	if err := os.MkdirAll(h.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := h.reboot(); err != nil {
		return nil, err
	}
	return h, unix.Mount(h.Boot, "/proc/sys/kernel/random/boot_id", "", unix.MS_BIND, "")
}

// reboot changes the boot id.
func (h *Host) reboot() error {
	f, err := os.OpenFile(h.Boot, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(uuid.NewString() + "\n")) // in place: it is mounted
	return errors.Join(err, f.Close())
}

// directories are below the mount point: the SR, another one, one that is to be
// adopted, and one that is empty.
var directories = []string{"sr", "other", "simple", "empty"}

// world is what every call begins with.
type world struct {
	*Host
	dir     string
	keys    map[string]sr.Key // by name
	adopted map[sr.Key]bool   // of a simple file SR, with modes of its own
	uuids   map[string]string // of SRs, by directory
	files   map[string][]byte // of /run
	truth   map[string][]byte // contents of snapshots whose data may be destroyed
}

const diskSize = 4 << 20 // bytes

func newWorld(h *Host) *world {
	w := &world{Host: h, dir: h.Dir, keys: map[string]sr.Key{}, adopted: map[sr.Key]bool{}, uuids: map[string]string{}}
	for _, dir := range directories {
		w.uuids[dir] = uuid.NewString()
	}
	return w
}

func (w *world) key(name string) string     { return string(w.keys[name]) }
func (w *world) path(dir string) string     { return filepath.Join(w.dir, dir) }
func (w *world) handle(dir string) string   { return layout.Handle(w.path(dir), w.uuids[dir]) }
func (w *world) uri(name string) string     { return uriOf(w.path("sr"), w.uuids["sr"], w.keys[name]) }
func (w *world) data(name string) string    { return filepath.Join(w.path("sr"), string(w.keys[name])) }
func (w *world) control(name string) string { return filepath.Join(w.path("sr"), ".reflinksr", name) }

// make makes the SRs and their volumes:
//
//	main       a disk with data, keys and a description
//	snapshot   of main, which has been written to since
//	bystander  another disk, which no call is about
func (w *world) make() error {
	for _, dir := range directories {
		if err := os.Mkdir(w.path(dir), 0o700); err != nil {
			return err
		}
	}
	for _, dir := range []string{"sr", "other"} {
		if err := w.call(smapi.SRCreate{UUID: w.uuids[dir], Configuration: map[string]string{"path": w.path(dir)}, Name: dir, Description: "an SR"}, nil); err != nil {
			return err
		}
		if err := w.attach(dir); err != nil {
			return err
		}
	}
	for _, name := range []string{"main", "bystander"} {
		if err := w.create(name); err != nil {
			return err
		}
		if err := w.write(name, 0, 128<<10); err != nil {
			return err
		}
	}
	for k, v := range map[string]string{"vdi-type": "user", "color": "blue"} {
		if err := w.call(w.set("main", k, v), nil); err != nil {
			return err
		}
	}
	if err := w.derive("snapshot", "Volume.snapshot", "main"); err != nil {
		return err
	}
	if err := w.write("main", 4096, 8192); err != nil {
		return err
	}
	if err := w.makeSimple(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.path("sr"), "notes.txt"), []byte("not yours\n"), 0o644)
}

// makeSimple makes a simple file SR.
func (w *world) makeSimple() error {
	for _, name := range []string{"old1", "old2"} {
		key, err := sr.NewKey()
		if err != nil {
			return err
		}
		w.keys[name], w.adopted[key] = key, true
		path := filepath.Join(w.path("simple"), string(key))
		err = errors.Join(
			os.WriteFile(path, []byte(strings.Repeat(name, 5000)), 0o644),
			os.WriteFile(path+".inf", fmt.Appendf(nil, `{"name": %q, "description": "", "size": 20000, "colour": "red"}`, name), 0o644))
		if err != nil {
			return err
		}
	}
	return nil
}

// save keeps what the host knows, for the runs.
func (w *world) save() error {
	w.files = map[string][]byte{}
	paths, err := filepath.Glob(rundir.Path + "/" + rundir.Attached + "/*.json")
	for _, path := range paths {
		data, e := os.ReadFile(path)
		err = errors.Join(err, e)
		w.files[path] = data
	}
	return err
}

// clearRun makes the host forget everything.
func (w *world) clearRun() error {
	for _, dir := range []string{"sr", "volume", "nbd"} {
		if err := os.RemoveAll(filepath.Join(rundir.Path, dir)); err != nil {
			return err
		}
	}
	links, err := w.links()
	for _, link := range links {
		err = errors.Join(err, os.Remove(link))
	}
	return err
}

// links are those to files of disks that dom0 may have.
func (w *world) links() (all []string, err error) {
	for _, uuid := range w.uuids {
		some, e := filepath.Glob(filepath.Join(datapath.FileDir, uuid+".*"))
		all, err = append(all, some...), errors.Join(err, e)
	}
	return all, err
}

// restore makes the host know what was saved.
func (w *world) restore() error {
	if err := w.clearRun(); err != nil {
		return err
	}
	for path, data := range w.files {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// call makes one call. A failure of it is an error.
func (w *world) call(r smapi.Request, out any) error { return w.Plugin.Call(r, out) }

func (w *world) configuration(dir string) map[string]string {
	return map[string]string{"path": w.path(dir), "sr_uuid": w.uuids[dir]}
}

func (w *world) attach(dir string) error {
	return w.call(smapi.SRAttach{Configuration: w.configuration(dir)}, nil)
}

func (w *world) set(name, k, v string) smapi.Request {
	return smapi.VolumeSet{SR: w.handle("sr"), Key: w.key(name), K: k, V: v}
}

func (w *world) resize(name string, size int64) smapi.Request {
	return smapi.VolumeResize{SR: w.handle("sr"), Key: w.key(name), NewSize: size}
}

func (w *world) create(name string) error {
	var v struct{ Key sr.Key }
	err := w.call(smapi.VolumeCreate{SR: w.handle("sr"), Name: name, Description: "made for " + name, Size: diskSize}, &v)
	w.keys[name] = v.Key
	return err
}

func (w *world) derive(name, method, from string) error {
	var v struct{ Key sr.Key }
	err := w.call(rig.OfVolume(method, w.handle("sr"), w.key(from)), &v)
	w.keys[name] = v.Key
	return err
}

// write writes into a volume's data, as a guest would, and makes it durable.
func (w *world) write(name string, offset, length int) error {
	f, err := os.OpenFile(w.data(name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(strings.Repeat(fmt.Sprintf("%s%7d", name[:1], offset), length/8)), int64(offset))
	return errors.Join(err, f.Sync(), f.Close())
}

// scatter makes main a disk in so many pieces that it is not cloned at once while a domain has it.
func (w *world) scatter() error {
	const pieces, piece = 2000, 4096
	if err := w.call(w.resize("main", diskSize+2*pieces*piece), nil); err != nil {
		return err
	}
	f, err := os.OpenFile(w.data("main"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for i := range int64(pieces) {
		if _, e := f.WriteAt(fmt.Appendf(nil, "%4096d", i), diskSize+2*i*piece); e != nil {
			err = e
		}
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// plug gives a domain the disk: several calls.
func (w *world) plug(name, domain string, calls ...string) error {
	for _, method := range calls {
		r := rig.OfDatapath(method, w.uri(name), domain)
		if method == open {
			r = smapi.DatapathOpen{URI: w.uri(name), Persistent: false}
		}
		if err := w.call(r, nil); err != nil {
			return err
		}
	}
	return nil
}
