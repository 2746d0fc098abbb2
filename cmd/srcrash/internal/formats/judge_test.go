package formats

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/internal/smapi"
)

// expectation is what must be found in an archive's SR, and of it. Whoever made the
// archive knew it; no plugin was asked.
type expectation struct {
	UUID        string `json:"uuid"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Filesystem  string `json:"filesystem"` // what it was on: the kind and the UUID

	// Destroyed: the SR's destruction was interrupted, and nothing of it is to stay.
	Destroyed bool `json:"destroyed,omitempty"`

	// What new volumes are like.
	SectorSize int  `json:"sector_size"`
	DataCOW    bool `json:"datacow"`

	Disks map[string]disk `json:"disks"` // by key

	// Unfinished are the kinds and names of what a check finds before the SR is attached;
	// of a lease also what is told of its holder.
	Unfinished []string `json:"unfinished"`
	Notes      []string `json:"notes"`   // what it notes afterwards; "xfs: …" on XFS only
	Used       []string `json:"used"`    // and when all disks have been written
	Foreign    []string `json:"foreign"` // files that are none of ours and stay as they are

	Similar map[string][]string `json:"similar"` // relatives of a disk, nearest first
	Changed []changed           `json:"changed"`
}

// disk is a volume as it must be found.
type disk struct {
	Name          string            `json:"name,omitempty"`
	Description   string            `json:"description,omitempty"`
	ReadWrite     bool              `json:"read_write,omitempty"`
	Sharable      bool              `json:"sharable,omitempty"`
	Keys          map[string]string `json:"keys,omitempty"`
	CBT           bool              `json:"cbt,omitempty"`
	DataDestroyed bool              `json:"data_destroyed,omitempty"`
	SectorSize    int               `json:"sector_size"`
	Created       string            `json:"created"`
	Origin        *origin           `json:"origin,omitempty"`
	Size          int64             `json:"size"` // bytes; of an adopted one, not yet rounded up
	Blocks        map[int]string    `json:"blocks,omitempty"`
}

type origin struct {
	Kind string `json:"kind"`
	Of   string `json:"of"`
	At   string `json:"at"`
}

// changed are the numbers of the blocks that differ.
type changed struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Blocks []int  `json:"blocks"`
}

func (d disk) contents() contents { return contents{Size: d.Size, Blocks: d.Blocks} }

// roundUp is the size that guests see.
func roundUp(size int64) int64 { return (size + 4095) / 4096 * 4096 }

// place is where an archive is put and used: a directory on a filesystem.
type place struct {
	plugin rig.Plugin
	srctl  string // the program
	path   string // of the SR's directory
	kind   string // of the filesystem

	want   expectation
	handle string

	mu    sync.Mutex
	wrong []string // what was found to be wrong
}

func (p *place) failf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = append(p.wrong, fmt.Sprintf(format, args...))
}

// same compares, as JSON does.
func (p *place) same(what string, got, want any) {
	var a, b any
	for v, to := range map[any]*any{&got: &a, &want: &b} {
		data, err := json.Marshal(v)
		if err == nil {
			err = json.Unmarshal(data, to)
		}
		if err != nil {
			p.failf("%s: %v", what, err)
			return
		}
	}
	if !reflect.DeepEqual(a, b) {
		g, _ := json.Marshal(a)
		w, _ := json.Marshal(b)
		p.failf("%s: %s, want %s", what, g, w)
	}
}

// call makes a call that must succeed.
func (p *place) call(r smapi.Request, out any) bool {
	err := p.plugin.Call(r, out)
	if err != nil {
		p.failf("%v", err)
	}
	return err == nil
}

func (p *place) run(args ...string) (string, error) {
	out, err := exec.Command(p.srctl, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("srctl %s: %w: %s", args[0], err, exit.Stderr)
	}
	return string(out), err
}

// live puts an archive at its place and uses it to its end; what is wrong is in p.wrong.
func (p *place) live(a *archive) {
	if p.look(a); p.handle == "" {
		return
	}
	p.use()
	p.sound(p.want.Used)
	p.call(smapi.SRDestroy{SR: p.handle}, nil)
	p.call(smapi.SRDetach{SR: p.handle}, nil)
	p.gone()
}

// look puts an archive at its place, attaches the SR there and looks at everything in it;
// what is wrong is in p.wrong. Of a destroyed SR it lets nothing be left.
func (p *place) look(a *archive) {
	p.want = a.want
	if err := a.put(p.path); err != nil {
		p.failf("%v", err)
		return
	}
	if !p.want.Destroyed { // of such a one nothing is used any more, wherever it is
		p.atHome()
	}
	unfinished, _ := p.check()
	p.same("what check finds before the SR is attached", unfinished, p.want.Unfinished)
	if p.want.Destroyed {
		if _, err := p.run("check", "-repair", p.path); err != nil {
			p.failf("%v", err)
		}
		p.gone()
		return
	}
	if !p.call(smapi.SRAttach{Configuration: map[string]string{"path": p.path, "sr_uuid": p.want.UUID}}, &p.handle) {
		return
	}
	var stat struct{ UUID, Name, Description string }
	if p.call(smapi.SRStat{SR: p.handle}, &stat) {
		p.same("the SR's UUID", stat.UUID, p.want.UUID)
		p.same("the SR's name", stat.Name, p.want.Name)
		p.same("the SR's description", stat.Description, p.want.Description)
	}
	p.disks()
	p.relatives()
	p.nothing(".reflinksr/staging")
	p.nothing(".reflinksr/leases")
	p.sound(p.want.Notes)
	p.newDisk()
}

// atHome: the SR is on another filesystem than it was on: it is not attached there until
// it is told so.
func (p *place) atHome() {
	err := p.plugin.Call(smapi.SRAttach{Configuration: map[string]string{"path": p.path}}, nil)
	if err == nil || !strings.Contains(err.Error(), p.want.Filesystem) {
		p.failf("SR.attach on another filesystem than %s: %v", p.want.Filesystem, err)
	}
	if _, err := p.run("rehome", p.path); err != nil {
		p.failf("%v", err)
	}
}

// holder is what a check tells of who has a lease.
var holder = regexp.MustCompile(`domain \S+ on host \S+ \([a-z-]+, since 20`)

// check answers what srctl check finds: problems and notes, each its kind and its name.
func (p *place) check() (problems, notes []string) {
	out, err := p.run("check", "-json", p.path)
	type problem struct{ Kind, Name, Text string }
	var c struct {
		Problems, Notes []problem
		Error           string
	}
	if e := json.Unmarshal([]byte(out), &c); e != nil || c.Error != "" {
		p.failf("srctl check: %v, %v, %s", e, err, out)
	}
	short := func(list []problem) (all []string) {
		all = []string{}
		for _, q := range list {
			line := q.Kind + " " + q.Name
			if q.Kind == "lease" {
				line += ": " + holder.FindString(q.Text)
			}
			all = append(all, line)
		}
		slices.Sort(all)
		return all
	}
	return short(c.Problems), short(c.Notes)
}

// sound: a check finds nothing, and notes what it must.
func (p *place) sound(noted []string) {
	problems, notes := p.check()
	p.same("what check finds", problems, []string{})
	var want []string
	for _, note := range noted {
		if note, only := strings.CutPrefix(note, p.kind+": "); only || !strings.Contains(note, "s: ") {
			want = append(want, note)
		}
	}
	slices.Sort(want)
	p.same("what check notes", notes, append([]string{}, want...))
}

// nothing: a directory is empty.
func (p *place) nothing(dir string) {
	names, err := os.ReadDir(filepath.Join(p.path, dir))
	if err != nil || len(names) > 0 {
		p.failf("%s has %v, %v", dir, names, err)
	}
}

// disks: there are exactly those volumes, and each is as it was.
func (p *place) disks() {
	var list []struct{ Key string }
	p.call(smapi.SRLs{SR: p.handle}, &list)
	for _, v := range list {
		if _, ok := p.want.Disks[v.Key]; !ok {
			p.failf("there is a volume %s", v.Key)
		}
	}
	p.each(p.disk)
}

func (p *place) disk(key string, d disk) {
	if d.Keys == nil {
		d.Keys = map[string]string{}
	}
	out, err := p.run("show", "-json", p.path, key)
	if err != nil {
		p.failf("%v", err)
		return
	}
	var shown, stat map[string]any
	if err := json.Unmarshal([]byte(out), &shown); err != nil {
		p.failf("%v", err)
	}
	p.call(smapi.VolumeStat{SR: p.handle, Key: key}, &stat)
	for member, want := range map[string]any{
		"key": key, "uuid": key, "name": d.Name, "description": d.Description, "read_write": d.ReadWrite,
		"sharable": d.Sharable, "keys": d.Keys, "cbt_enabled": d.CBT, "virtual_size": roundUp(d.Size),
	} {
		p.same(d.Name+": "+member, stat[member], want)
	}
	for member, want := range map[string]any{"data_destroyed": d.DataDestroyed, "sector_size": d.SectorSize, "created": d.Created, "origin": d.Origin} {
		p.same(d.Name+": "+member, shown[member], want)
	}
	if d.DataDestroyed {
		p.same(d.Name+": volume_type", stat["volume_type"], "CBT_Metadata")
		var refused *smapi.Failure
		err := p.plugin.Call(smapi.VolumeClone{SR: p.handle, Key: key}, nil)
		if !errors.As(err, &refused) {
			p.failf("%s: a clone of what has no data: %v", d.Name, err)
		}
		return
	}
	f, err := os.Open(filepath.Join(p.path, key))
	if err != nil {
		p.failf("%v", err)
		return
	}
	defer f.Close()
	if wrong := d.contents().differ(f); wrong != "" {
		p.failf("%s: %s", d.Name, wrong)
	}
}

// relatives: what records tell of each other.
func (p *place) relatives() {
	for key, want := range p.want.Similar {
		var got []string
		p.call(smapi.VolumeSimilarContent{SR: p.handle, Key: key}, &got)
		p.same("what is similar to "+key, got, want)
	}
	for _, c := range p.want.Changed {
		size := roundUp(p.want.Disks[c.To].Size)
		var got struct{ Granularity, Bitmap any }
		p.call(smapi.VolumeListChangedBlocks{SR: p.handle, Key: c.From, Key2: c.To, Length: size}, &got)
		p.same("changed blocks from "+c.From+" to "+c.To, bits(got.Bitmap), c.Blocks)
	}
}

// each looks at all disks, some at a time.
func (p *place) each(do func(key string, d disk)) {
	var all sync.WaitGroup
	places := make(chan struct{}, 4)
	for key, d := range p.want.Disks {
		all.Go(func() {
			places <- struct{}{}
			do(key, d)
			<-places
		})
	}
	all.Wait()
}

// use uses each volume as a toolstack does: on a device, by a snapshot, and by writing.
func (p *place) use() { p.each(p.useDisk) }

func (p *place) useDisk(key string, d disk) {
	if d.DataDestroyed {
		return
	}
	p.onDevice(key, d, true, func(f *os.File) {
		if wrong := d.contents().differ(f); wrong != "" {
			p.failf("%s, on a device: %s", d.Name, wrong)
		}
		if n, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET); err != nil || n != d.SectorSize {
			p.failf("%s has sectors of %d bytes, want %d, %v", d.Name, n, d.SectorSize, err)
		}
	})
	var snapshot struct{ Key string }
	if !p.call(smapi.VolumeSnapshot{SR: p.handle, Key: key}, &snapshot) {
		return
	}
	if d.ReadWrite {
		p.write(key, d)
	}
	p.call(smapi.VolumeDestroy{SR: p.handle, Key: snapshot.Key}, nil)
}

// write fills the disk anew, through a device.
func (p *place) write(key string, d disk) {
	d.Size, d.Blocks = roundUp(d.Size), map[int]string{0: "written anew"}
	p.onDevice(key, d, false, func(f *os.File) {
		for n := range d.contents().count() {
			if _, err := f.WriteAt(d.contents().block(n), int64(n)*blockSize); err != nil {
				p.failf("%s: %v", d.Name, err)
			}
		}
		if err := f.Sync(); err != nil {
			p.failf("%s: %v", d.Name, err)
		}
	})
	f, err := os.Open(filepath.Join(p.path, key))
	if err != nil {
		p.failf("%v", err)
		return
	}
	defer f.Close()
	if wrong := d.contents().differ(f); wrong != "" {
		p.failf("%s, after it was written: %s", d.Name, wrong)
	}
}

// onDevice gives a domain the disk.
func (p *place) onDevice(key string, d disk, readOnly bool, do func(*os.File)) {
	var v struct{ URI []string }
	if !p.call(smapi.VolumeStat{SR: p.handle, Key: key}, &v) || len(v.URI) == 0 {
		return
	}
	p.call(smapi.DatapathOpen{URI: v.URI[0], Persistent: true}, nil)
	defer p.call(smapi.DatapathClose{URI: v.URI[0]}, nil)
	var b smapi.Backend
	if !p.call(smapi.DatapathAttach{URI: v.URI[0], Domain: "7"}, &b) {
		return
	}
	defer p.call(smapi.DatapathDetach{URI: v.URI[0], Domain: "7"}, nil)
	activate, flags := "Datapath.activate", os.O_RDWR|unix.O_EXCL
	if readOnly {
		activate, flags = "Datapath.activate_readonly", os.O_RDONLY
	}
	if !p.call(rig.OfDatapath(activate, v.URI[0], "7"), nil) {
		return
	}
	defer p.call(smapi.DatapathDeactivate{URI: v.URI[0], Domain: "7"}, nil)
	f, err := os.OpenFile(b.Path(), flags, 0)
	if err != nil {
		p.failf("%s: %v", d.Name, err)
		return
	}
	defer f.Close()
	do(f)
}

// gone: nothing is left but what never was the SR's.
func (p *place) gone() {
	left, err := os.ReadDir(p.path)
	if err != nil {
		p.failf("%v", err)
	}
	names := []string{}
	for _, entry := range left {
		names = append(names, entry.Name())
	}
	slices.Sort(names)
	p.same("what the destroyed SR left", names, append([]string{}, p.want.Foreign...))
}

// newDisk: a new volume is as the SR's options would have it.
func (p *place) newDisk() {
	var v struct{ Key string }
	if !p.call(smapi.VolumeCreate{SR: p.handle, Name: "new", Size: blockSize}, &v) {
		return
	}
	out, err := p.run("show", "-json", p.path, v.Key)
	var shown struct {
		SectorSize int `json:"sector_size"`
	}
	if err = errors.Join(err, json.Unmarshal([]byte(out), &shown)); err != nil || shown.SectorSize != p.want.SectorSize {
		p.failf("a new volume has sectors of %d bytes, want %d, %v", shown.SectorSize, p.want.SectorSize, err)
	}
	if c, err := readContents(filepath.Join(p.path, v.Key)); err != nil || p.kind == "btrfs" && c.NoCOW == p.want.DataCOW {
		p.failf("a new volume is nodatacow: %v, %v", c.NoCOW, err)
	}
	p.call(smapi.VolumeDestroy{SR: p.handle, Key: v.Key}, nil)
}
