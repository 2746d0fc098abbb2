package calls

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"reflinksr/cmd/srcrash/internal/disk"
	"reflinksr/datapath/lease"
	"reflinksr/internal/loop"
	"reflinksr/internal/rundir"
	"reflinksr/internal/sys"
	"reflinksr/scripts/owned"
	"reflinksr/sr"
)

// state is everything that a call can change, with names in place of keys and
// without times.
type state struct {
	SRs  map[string]*repository // by directory
	Host host
}

// repository is a directory that is an SR, or may become one.
type repository struct {
	Marker    any               // of sr.json, without times and the filesystem
	Tombstone bool              // it has been destroyed, and is not yet erased
	Volumes   map[string]volume // by name of its key
	Orphans   []string          // data without a record
	Foreign   map[string]string // other files: their contents' sum
	Answers   map[string]string // what list_changed_blocks tells, by "A to B"
	Kept      map[string]kept   // of volumes whose data was destroyed
	Left      left
	Wrong     []string // modes
}

// volume is what the toolstack and the guest see of a volume.
type volume struct {
	Record any    // without times
	Size   int64  // of the data, in bytes
	Sum    string // of the data
	Wrong  string // why it cannot be read
}

// left is what calls need for a while.
type left struct {
	Staging []string
	Locks   []string // of volumes that are no more
	Leases  map[string][]string
	CBT     []string // of volumes that have their data or are no more, and what is to be given back
}

func (l left) empty() bool { return len(l.Staging)+len(l.Locks)+len(l.Leases)+len(l.CBT) == 0 }

// host is what this boot of the host knows.
type host struct {
	Attached []string            // directories of SRs
	Notes    map[string]string   // by volume: domains, and who of them is active
	Devices  map[string][]string // by file
}

// look reads the state.
func (w *world) look() (*state, error) {
	s := &state{SRs: map[string]*repository{}}
	for _, dir := range directories {
		r, err := w.repository(filepath.Join(w.dir, dir))
		if err != nil {
			return nil, fmt.Errorf("looking at %s: %w", dir, err)
		}
		s.SRs[dir] = r
	}
	var err error
	s.Host, err = w.host()
	return s, err
}

func (w *world) repository(dir string) (*repository, error) {
	r := &repository{Volumes: map[string]volume{}, Foreign: map[string]string{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := w.newNames()
	for _, e := range entries {
		name := e.Name()
		path := filepath.Join(dir, name)
		key, keyErr := sr.ParseKey(strings.TrimSuffix(name, ".inf"))
		switch {
		case name == "sr.json":
			r.Marker = readRecord(path, "created", "filesystem")
			r.private(e, 0o600)
		case name == "sr.json.destroyed":
			r.Tombstone = true
		case name == ".reflinksr":
			r.private(e, 0o700|fs.ModeDir)
		case name == disk.Bell:
		case keyErr == nil && name == sr.Record(key):
			r.Volumes[names.of(key)] = readVolume(dir, key, names)
			if r.Marker != nil || !w.adopted[key] {
				r.private(e, 0o600)
			}
		case keyErr == nil:
			if _, err := os.Lstat(path + ".inf"); errors.Is(err, fs.ErrNotExist) {
				r.Orphans = append(r.Orphans, names.of(key))
			}
			if !w.adopted[key] {
				r.private(e, 0o600)
			}
		default:
			r.Foreign[name] = sum(path)
		}
	}
	return r, errors.Join(r.readControl(filepath.Join(dir, ".reflinksr"), names), r.readCBT(w, dir, names))
}

// private notes a file that others could read.
func (r *repository) private(e fs.DirEntry, want fs.FileMode) {
	info, err := e.Info()
	if err == nil && info.Mode() != want {
		r.Wrong = append(r.Wrong, fmt.Sprintf("%s has mode %v, not %v", e.Name(), info.Mode(), want))
	}
}

// readControl reads the control directory. Where there is no SR (yet), one that has
// only empty directories, lock files and an unfinished marker is as good as none: the
// next SR.create takes it over.
func (r *repository) readControl(dir string, names *names) error {
	for _, sub := range []string{"staging", "leases", "locks"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			r.private(e, 0o600)
			switch sub {
			case "staging":
				if e.Name() == "sr.json.new" && r.Marker == nil && !r.Tombstone {
					continue
				}
				r.Left.Staging = append(r.Left.Staging, names.in(e.Name()))
			case "locks":
				if _, err := os.Lstat(filepath.Join(dir, "..", e.Name()+".inf")); err != nil {
					r.Left.Locks = append(r.Left.Locks, names.in(e.Name()))
				}
			case "leases":
				if r.Left.Leases == nil {
					r.Left.Leases = map[string][]string{}
				}
				r.Left.Leases[names.in(e.Name())] = readLease(filepath.Join(dir, sub, e.Name()))
			}
		}
	}
	slices.Sort(r.Left.Staging)
	slices.Sort(r.Left.Locks)
	return nil
}

func readLease(path string) (holders []string) {
	data, err := os.ReadFile(path)
	var l struct {
		Holders []struct {
			Domain string
			Write  bool
		}
	}
	if err == nil {
		err = json.Unmarshal(data, &l)
	}
	if err != nil {
		return []string{err.Error()}
	}
	for _, h := range l.Holders {
		holders = append(holders, fmt.Sprintf("%s write=%v", h.Domain, h.Write))
	}
	return holders
}

// readRecord reads a JSON object without some of its members; what is none, as text.
func readRecord(path string, without ...string) any {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	var members map[string]any
	if err := json.Unmarshal(data, &members); err != nil {
		return fmt.Sprintf("%v: %.100q", err, data)
	}
	for _, name := range without {
		delete(members, name)
	}
	return members
}

func readVolume(dir string, key sr.Key, names *names) volume {
	// The size in the record is a copy for other readers; the data's length counts.
	v := volume{Record: readRecord(filepath.Join(dir, sr.Record(key)), "created", "size", "sequence")}
	if members, ok := v.Record.(map[string]any); !ok {
		v.Wrong = fmt.Sprint("its record cannot be read: ", v.Record)
	} else if origin, ok := members["origin"].(map[string]any); ok {
		delete(origin, "at")
		origin["of"] = names.of(sr.Key(fmt.Sprint(origin["of"])))
	}
	path := filepath.Join(dir, sr.Data(key))
	info, err := os.Lstat(path)
	if err != nil {
		v.Wrong = "its data cannot be read: " + err.Error()
		return v
	}
	v.Size = info.Size()
	if !v.destroyed() { // what is left then is nobody's to read: see kept
		v.Sum = sum(path)
	}
	return v
}

// sum is a digest of a file's contents.
func sum(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:6])
}

// with is a copy of the state with a change of one directory.
func (s *state) with(dir string, change func(*repository)) *state {
	c := &state{SRs: maps.Clone(s.SRs), Host: s.Host}
	r := *s.SRs[dir]
	r.Volumes = maps.Clone(r.Volumes)
	change(&r)
	c.SRs[dir] = &r
	return c
}

// host reads what is in /run and in the kernel.
func (w *world) host() (host, error) {
	h := host{Notes: map[string]string{}, Devices: map[string][]string{}}
	names := w.newNames()
	attached, err := filepath.Glob(rundir.Path + "/" + rundir.Attached + "/*.json")
	if err != nil {
		return h, err
	}
	for _, path := range attached {
		var a struct{ Path string }
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, &a)
		}
		if err != nil {
			return h, err
		}
		h.Attached = append(h.Attached, strings.TrimPrefix(a.Path, w.dir+"/"))
	}
	slices.Sort(h.Attached)
	notes, err := filepath.Glob(rundir.Path + "/" + rundir.Volumes + "/*.json")
	if err != nil {
		return h, err
	}
	for _, path := range notes {
		data, err := os.ReadFile(path)
		if err != nil {
			return h, err
		}
		var n struct {
			Domains []string
			Active  []struct {
				Domain string
				Write  bool
			}
			Throw bool `json:"throw_away"`
			Stuck bool
		}
		if err := json.Unmarshal(data, &n); err != nil {
			return h, fmt.Errorf("%s: %w", path, err)
		}
		name := filepath.Base(path)
		h.Notes[names.in(name[37:])] = fmt.Sprintf("%+v", n)
		if slices.ContainsFunc(n.Domains, lease.IsDom0) {
			h.Notes[names.in(name[37:])] += " in dom0"
		}
	}
	// A link to a file is dom0's. Without one dom0 has the device.
	links, err := w.links()
	if err != nil {
		return h, err
	}
	for _, path := range links {
		name := names.in(filepath.Base(path)[37:] + ".json")
		if !strings.Contains(h.Notes[name], " in dom0") {
			h.Notes[name] += " and a link that is nobody's"
		}
	}
	devices, err := w.devices()
	for _, d := range devices {
		name := names.in(filepath.Base(d.File))
		h.Devices[name] = append(h.Devices[name], d.properties)
	}
	return h, err
}

// device is a loop device with a file of ours behind it.
type device struct {
	owned.Loop
	properties string
}

// devices lists them. Direct I/O counts where it is a matter of right and wrong: on XFS a guest shall have its disk also when
// it cannot have that.
func (h *Host) devices() (all []device, err error) {
	properties := []string{"size", "queue/logical_block_size", "loop/autoclear", "ro"}
	dir, err := os.Open(h.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if kind, err := sys.KindOf(dir); err != nil || kind != "xfs" {
		properties = append(properties, "loop/dio")
	}
	bound, err := owned.Loops(owned.Below(h.Dir))
	for _, l := range bound {
		d := device{Loop: l}
		for _, property := range properties {
			value, _ := os.ReadFile(filepath.Join("/sys/block", filepath.Base(l.Path()), property))
			d.properties += filepath.Base(property) + "=" + strings.TrimSpace(string(value)) + " "
		}
		if _, e := l.Binding(); errors.Is(e, loop.ErrGone) {
			continue // whose properties those are we do not know
		}
		all = append(all, d)
	}
	return all, err
}

// Release detaches every device with a file on the filesystem under test.
func (h *Host) Release() error {
	bound, err := owned.Loops(owned.Below(h.Dir))
	return errors.Join(err, owned.Detach(bound))
}

// names gives keys names: those of the volumes that were there before, and new1,
// new2, … for others in the order in which they are met.
type names struct {
	known map[sr.Key]string
	fresh int
}

func (w *world) newNames() *names {
	n := &names{known: map[sr.Key]string{}}
	for name, key := range w.keys {
		n.known[key] = name
	}
	return n
}

func (n *names) of(key sr.Key) string {
	if n.known[key] == "" {
		n.fresh++
		n.known[key] = fmt.Sprintf("new%d", n.fresh)
	}
	return n.known[key]
}

// in replaces the key at the beginning of a file's name.
func (n *names) in(name string) string {
	if len(name) >= 36 {
		if key, err := sr.ParseKey(name[:36]); err == nil {
			return n.of(key) + name[36:]
		}
	}
	return name
}

// text is a value in a form in which two can be compared, line by line.
func text(v any) string {
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// difference lists the lines of now that are not in want, and the reverse.
func difference(want, now any) string {
	a, b := strings.Split(text(want), "\n"), strings.Split(text(now), "\n")
	var out []string
	for _, line := range a {
		if !slices.Contains(b, line) {
			out = append(out, "-"+strings.TrimSpace(line))
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			out = append(out, "+"+strings.TrimSpace(line))
		}
	}
	return strings.Join(out, " ")
}

func equal(a, b any) bool { return text(a) == text(b) }
