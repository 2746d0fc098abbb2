package formats

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/cmd/srcrash/internal/trace"
	"reflinksr/internal/smapi"
)

// Who the host is that makes the archives: nobody's.
const (
	makerID   = "11111111222243338444555555555555"
	makerHost = "11111111-2222-4333-8444-555555555555"
	makerBoot = "99999999-8888-4777-8666-555555555555"
)

// pretend makes this process's host that one. It needs a mount namespace of its own.
func pretend(dir string) (end func(), err error) {
	var mounted []string
	end = func() {
		for _, path := range mounted {
			unix.Unmount(path, unix.MNT_DETACH)
		}
	}
	for path, text := range map[string]string{"/etc/machine-id": makerID, "/proc/sys/kernel/random/boot_id": makerBoot} {
		name := filepath.Join(dir, filepath.Base(path))
		err = os.WriteFile(name, []byte(text+"\n"), 0o600)
		if err == nil {
			err = unix.Mount(name, path, "", unix.MS_BIND, "")
		}
		if err != nil {
			end()
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		mounted = append(mounted, path)
	}
	return end, nil
}

// maker makes an SR with the real plugin, and knows what must be found in it. After the
// first error it does nothing any more.
type maker struct {
	plugin rig.Plugin
	path   string
	handle string
	keys   map[string]string // by name
	want   expectation
	err    error
}

func (m *maker) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}

func (m *maker) call(r smapi.Request, out any) {
	if m.err == nil {
		m.err = m.plugin.Call(r, out)
	}
}

// create makes the SR.
func (m *maker) create(name string, configuration map[string]string) {
	m.keys = map[string]string{}
	m.want.UUID, m.want.Name, m.want.Description = newUUID(), name, "as this release wrote it"
	m.want.Disks, m.want.Similar = map[string]disk{}, map[string][]string{}
	m.want.Unfinished, m.want.Notes, m.want.Changed = []string{}, []string{}, []changed{}
	m.want.SectorSize, m.want.DataCOW = 512, configuration["datacow"] == "on"
	if configuration["sector_size"] == "4096" {
		m.want.SectorSize = 4096
	}
	configuration["path"] = m.path
	m.call(smapi.SRCreate{UUID: m.want.UUID, Configuration: configuration, Name: name, Description: m.want.Description}, nil)
	m.call(smapi.SRAttach{Configuration: map[string]string{"path": m.path}}, &m.handle)
}

func (m *maker) uri(name string) string {
	var v struct{ URI []string }
	m.call(smapi.VolumeStat{SR: m.handle, Key: m.keys[name]}, &v)
	if m.err != nil {
		return ""
	}
	return v.URI[0]
}

// change changes what must be found of a disk.
func (m *maker) change(name string, do func(d *disk)) {
	d := m.want.Disks[m.keys[name]]
	do(&d)
	m.want.Disks[m.keys[name]] = d
}

// disk makes a disk of so many blocks.
func (m *maker) disk(name string, blocks int, sharable bool) {
	var v struct{ Key string }
	m.call(smapi.VolumeCreate{SR: m.handle, Name: name, Description: "made as " + name, Size: int64(blocks) * blockSize, Sharable: sharable}, &v)
	m.keys[name] = v.Key
	m.want.Disks[v.Key] = disk{Name: name, Description: "made as " + name, ReadWrite: true, Sharable: sharable, Keys: map[string]string{},
		SectorSize: m.want.SectorSize, Size: int64(blocks) * blockSize, Blocks: map[int]string{}}
}

// derive makes a disk from another.
func (m *maker) derive(name, method, from string) {
	var v struct{ Key string }
	m.call(rig.OfVolume(method, m.handle, m.keys[from]), &v)
	m.derived(name, strings.ToLower(strings.TrimPrefix(method, "Volume.")), v.Key, m.keys[from], m.want.Disks[m.keys[from]])
}

func (m *maker) derived(name, kind, key, of string, d disk) {
	m.keys[name] = key
	d.Blocks, d.Keys = maps.Clone(d.Blocks), map[string]string{}
	d.ReadWrite, d.Sharable = kind != "snapshot", d.Sharable && false
	d.Origin = &origin{Kind: kind, Of: of}
	m.want.Disks[key] = d
}

// write writes blocks, as a guest would.
func (m *maker) write(name string, blocks ...int) {
	if m.err != nil {
		return
	}
	f, err := os.OpenFile(filepath.Join(m.path, m.keys[name]), os.O_RDWR, 0)
	if err != nil {
		m.fail(err)
		return
	}
	d := m.want.Disks[m.keys[name]]
	for _, n := range blocks {
		again := 1
		if old := d.Blocks[n]; old != "" {
			fmt.Sscanf(old[strings.LastIndex(old, "v")+1:], "%d", &again)
			again++
		}
		d.Blocks[n] = fmt.Sprintf("%s %d v%d", name, n, again)
		_, e := f.WriteAt(contents{Size: d.Size, Blocks: d.Blocks}.block(n), int64(n)*blockSize)
		err = errors.Join(err, e, f.Sync()) // each is an extent of its own
	}
	m.fail(errors.Join(err, f.Close()))
}

var anyKey = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// killed makes a call and kills it just before it makes a system call for the nth time:
// its name and its paths in the SR, with KEY for every key. It answers the key that the
// system call was about.
func (m *maker) killed(r smapi.Request, before string, nth int) (key string) {
	if m.err != nil {
		return ""
	}
	c := m.plugin.Command(r)
	made := 0
	ended, err := trace.Run(trace.Command{Path: c.Path, Args: []string{"--json"}, Stdin: c.Request, Stop: func(s *trace.Stop) trace.Action {
		text := strings.ReplaceAll(strings.ReplaceAll(s.String(), m.path+"/.reflinksr/", ""), m.path+"/", "")
		if anyKey.ReplaceAllString(text, "KEY") != before {
			return trace.Action{}
		}
		made++
		key = anyKey.FindString(text)
		return trace.Action{Kill: made == nth}
	}})
	if err == nil && !ended.Status.Signaled() {
		err = fmt.Errorf("%s ended before it made %q for the %dth time: %s", r.Call(), before, nth, ended.Stdout)
	}
	m.fail(err)
	return key
}

// unfinished notes what a check must find.
func (m *maker) unfinished(names ...string) {
	for _, name := range names {
		m.want.Unfinished = append(m.want.Unfinished, "unfinished .reflinksr/"+name)
	}
}

// move renames, as what a power cut leaves.
func (m *maker) move(from, to string) {
	if m.err == nil {
		m.fail(os.Rename(filepath.Join(m.path, from), filepath.Join(m.path, to)))
	}
}

// everything makes an SR with all that one on a local filesystem can have in it.
func (m *maker) everything() {
	m.adopted()
	m.create("everything", map[string]string{})
	m.settleAdopted()
	m.plain()
	m.changedBlocks()
	m.interrupted()
	m.inUse()
	if m.err == nil {
		m.fail(os.WriteFile(filepath.Join(m.path, "notes.txt"), []byte("somebody's\n"), 0o644))
	}
	m.want.Foreign = []string{"notes.txt"}
}

// adoptedSize are bytes: the one is rounded up when it is written, the other never is.
var adoptedSize = map[string]int64{"simple": 20000, "read-only": 20480}

// adopted: records of the simple file SR, one with a member that nobody knows, and one
// that must not be written.
func (m *maker) adopted() {
	m.keys, m.want.Disks = map[string]string{}, nil
	for name, record := range map[string]string{
		"simple":    `{"name": "simple", "description": "from elsewhere", "size": 20000, "colour": "red"}`,
		"read-only": `{"name": "read-only", "description": "from elsewhere", "size": 20480, "read_write": false}`,
	} {
		key := newUUID()
		m.keys[name] = key
		data := contents{Size: adoptedSize[name], Blocks: map[int]string{0: name}}
		m.fail(errors.Join(os.WriteFile(filepath.Join(m.path, key), data.block(0), 0o644),
			os.WriteFile(filepath.Join(m.path, key+".inf"), []byte(record+"\n"), 0o644)))
	}
}

func (m *maker) settleAdopted() {
	var list []struct{ Key, Name string }
	m.call(smapi.SRLs{SR: m.handle}, &list)
	for _, v := range list {
		m.keys[v.Name] = v.Key
		m.want.Disks[v.Key] = disk{Name: v.Name, Description: "from elsewhere", ReadWrite: v.Name != "read-only", Keys: map[string]string{},
			SectorSize: 512, Created: "0001-01-01T00:00:00Z", Size: adoptedSize[v.Name], Blocks: map[int]string{0: v.Name}}
		m.want.Notes = append(m.want.Notes, "mode "+v.Key, "mode "+v.Key+".inf")
		if v.Name == "simple" {
			m.want.Notes = append(m.want.Notes, "size "+v.Key)
		}
	}
}

// plain: disks, and what comes from them.
func (m *maker) plain() {
	m.disk("plain", 8, false)
	m.write("plain", 0, 1, 5)
	m.call(smapi.VolumeSet{SR: m.handle, Key: m.keys["plain"], K: "vdi-type", V: "user"}, nil)
	m.call(smapi.VolumeSet{SR: m.handle, Key: m.keys["plain"], K: "grün", V: "ja \"so\"\n"}, nil)
	m.call(smapi.VolumeSetDescription{SR: m.handle, Key: m.keys["plain"], NewDescription: "Übergröße \u2028 <&>"}, nil)
	m.change("plain", func(d *disk) {
		d.Description = "Übergröße \u2028 <&>"
		d.Keys = map[string]string{"vdi-type": "user", "grün": "ja \"so\"\n"}
	})
	m.derive("snapshot", "Volume.snapshot", "plain")
	m.write("plain", 1, 2)
	m.derive("clone", "Volume.clone", "snapshot")
	m.write("clone", 3)
	m.disk("sharable", 2, true)
	m.write("sharable", 1)
	m.disk("grown", 2, false)
	m.write("grown", 1)
	m.call(smapi.VolumeResize{SR: m.handle, Key: m.keys["grown"], NewSize: 4 * blockSize}, nil)
	m.change("grown", func(d *disk) { d.Size = 4 * blockSize })
	m.foreignSectors()
	m.wrongClock()
}

// foreignSectors: a copy from an SR whose disks have sectors of 4096 bytes.
func (m *maker) foreignSectors() {
	other := maker{plugin: m.plugin, path: m.path + ".other"}
	if m.err != nil {
		return
	}
	other.fail(os.Mkdir(other.path, 0o700))
	other.create("other", map[string]string{"sector_size": "4096"})
	other.disk("copy", 2, false)
	other.write("copy", 0)
	var v struct{ Key string }
	other.call(smapi.VolumeCopy{SR: other.handle, Key: other.keys["copy"], DestSR: m.handle}, &v)
	m.fail(other.err)
	m.derived("copy", "copy", v.Key, other.keys["copy"], other.want.Disks[other.keys["copy"]])
	m.want.Notes = append(m.want.Notes, "lineage "+v.Key+".inf")
}

// wrongClock: snapshots of which the clock says that the last is the oldest, as after it
// was set back. Their numbers tell what is true.
func (m *maker) wrongClock() {
	m.disk("clock", 2, false)
	m.write("clock", 0)
	m.derive("first", "Volume.snapshot", "clock")
	m.write("clock", 1)
	m.derive("second", "Volume.snapshot", "clock")
	m.derive("third", "Volume.snapshot", "clock")
	if m.err != nil {
		return
	}
	name := filepath.Join(m.path, m.keys["third"]+".inf")
	record, err := os.ReadFile(name)
	set := regexp.MustCompile(`"created":"[^"]*"`).ReplaceAll(record, []byte(`"created":"2001-02-03T04:05:06Z"`))
	if err == nil && string(set) == string(record) {
		err = fmt.Errorf("%s has no created: %s", name, record)
	}
	m.fail(errors.Join(err, os.WriteFile(name, set, 0o600)))
	m.want.Similar[m.keys["clock"]] = []string{m.keys["first"], m.keys["second"], m.keys["third"]}
	m.want.Similar[m.keys["clone"]] = []string{m.keys["snapshot"], m.keys["plain"]}
}

// changedBlocks: destroyed data, all of it; before its commit; and after.
func (m *maker) changedBlocks() {
	for _, name := range []string{"cbt", "early", "todo", "done"} {
		m.disk(name, 8, false)
		m.call(smapi.VolumeEnableCBT{SR: m.handle, Key: m.keys[name]}, nil)
		m.change(name, func(d *disk) { d.CBT = true })
		m.write(name, 0, 2, 4)
		m.derive(name+"1", "Volume.snapshot", name)
		m.write(name, 2)
		m.derive(name+"2", "Volume.snapshot", name)
		m.write(name, 4)
		m.want.Changed = append(m.want.Changed,
			changed{m.keys[name+"1"], m.keys[name+"2"], []int{2}},
			changed{m.keys[name+"2"], m.keys[name], []int{4}},
			changed{m.keys[name+"1"], m.keys[name], []int{2, 4}})
	}
	without := func(d *disk) { d.DataDestroyed, d.Blocks = true, nil }
	for _, name := range []string{"cbt1", "cbt2"} { // block 4 of the one is kept in the other
		m.call(smapi.VolumeDataDestroy{SR: m.handle, Key: m.keys[name]}, nil)
		m.change(name, without)
	}
	key := m.killed(smapi.VolumeDataDestroy{SR: m.handle, Key: m.keys["todo1"]}, "renameat2 staging/KEY.inf.new KEY.inf", 1)
	m.unfinished("staging/" + key + ".inf.new")
	m.want.Unfinished = append(m.want.Unfinished, "unfinished .reflinksr/cbt/"+key+".todo")
	key = m.killed(smapi.VolumeDataDestroy{SR: m.handle, Key: m.keys["done1"]}, "unlinkat staging/KEY.inf.new", 2)
	m.unfinished("staging/" + key + ".inf.new")
	m.want.Unfinished = append(m.want.Unfinished, "unfinished .reflinksr/cbt/"+key+".todo")
	m.change("done1", without)
}

// interrupted: every kind of file that a killed call or a power cut leaves in staging.
func (m *maker) interrupted() {
	create := smapi.VolumeCreate{SR: m.handle, Name: "unborn", Size: blockSize}
	key := m.killed(create, "openat staging/KEY.inf", 1)
	m.unfinished("staging/" + key)
	key = m.killed(create, "renameat staging/KEY KEY", 1)
	m.unfinished("staging/"+key, "staging/"+key+".inf")
	key = m.killed(smapi.VolumeSnapshot{SR: m.handle, Key: m.keys["plain"]}, "renameat staging/KEY.inf KEY.inf", 1)
	m.unfinished("staging/" + key + ".inf")

	m.disk("late", 2, false) // its record came to the disk, its data not yet
	m.write("late", 1)
	m.move(m.keys["late"], ".reflinksr/staging/"+m.keys["late"])
	m.unfinished("staging/" + m.keys["late"])

	m.disk("destroyed", 2, false)
	m.write("destroyed", 0)
	key = m.killed(smapi.VolumeDestroy{SR: m.handle, Key: m.keys["destroyed"]}, "unlinkat KEY", 1)
	m.unfinished("staging/" + key + ".inf")
	delete(m.want.Disks, key)

	m.disk("old name", 1, false)
	key = m.killed(smapi.VolumeSetName{SR: m.handle, Key: m.keys["old name"], NewName: "never"}, "renameat2 staging/KEY.inf.new KEY.inf", 1)
	m.unfinished("staging/" + key + ".inf.new")
	m.disk("former name", 1, false)
	key = m.killed(smapi.VolumeSetName{SR: m.handle, Key: m.keys["former name"], NewName: "new name"}, "unlinkat staging/KEY.inf.new", 2)
	m.unfinished("staging/" + key + ".inf.new")
	m.change("former name", func(d *disk) { d.Name = "new name" })

	for name, done := range map[string]bool{"not reverted": false, "reverted": true} {
		m.disk(name, 4, false)
		m.write(name, 0, 1)
		m.derive(name+" to", "Volume.snapshot", name)
		m.write(name, 1, 2)
		before, nth := "renameat2 staging/KEY.revert KEY", 1
		if done {
			before, nth = "unlinkat staging/KEY.revert", 2
			m.change(name, func(d *disk) { d.Blocks = m.want.Disks[m.keys[name+" to"]].Blocks })
		}
		key = m.killed(smapi.VolumeRevert{SR: m.handle, Key: m.keys[name], Snapshot: m.keys[name+" to"]}, before, nth)
		m.unfinished("staging/" + key + ".revert")
	}
	m.compositions()

	key = m.killed(smapi.VolumeDataDestroy{SR: m.handle, Key: m.keys["early1"]}, "renameat2 staging/KEY.todo.new cbt/KEY.todo", 1)
	m.unfinished("staging/" + key + ".todo.new")
	// No check finds this one: srctl rehome, which writes the marker, comes before.
	m.killed(smapi.SRSetName{SR: m.handle, NewName: "never"}, "renameat2 staging/sr.json.new sr.json", 1)
}

// compositions: a disk that is laid over another, before and after that is certain.
func (m *maker) compositions() {
	for name, done := range map[string]bool{"not composed": false, "composed": true} {
		under := name + " on"
		m.disk(under, 4, false)
		m.write(under, 0, 1)
		m.disk(name, 4, false)
		m.write(name, 1, 2)
		before, nth := "renameat2 staging/KEY.composed KEY", 1
		if done {
			before, nth = "unlinkat staging/KEY.composed", 2
		}
		m.killed(smapi.VolumeCompose{SR: m.handle, Key: m.keys[name], Key2: m.keys[under]}, before, nth)
		m.unfinished("staging/" + m.keys[name] + ".composed")
		if done {
			below := m.want.Disks[m.keys[under]].Blocks
			m.change(name, func(d *disk) { d.Blocks[0] = below[0] })
			delete(m.want.Disks, m.keys[under])
			m.unfinished("staging/" + m.keys[under] + ".inf")
		}
	}
}

// inUse: what a host that crashed has left of disks that were in use.
func (m *maker) inUse() {
	m.disk("active", 1, false)
	m.disk("activating", 1, false)
	m.disk("forgetting", 2, false)
	m.write("forgetting", 0)
	for _, name := range []string{"active", "activating", "forgetting"} {
		uri := m.uri(name)
		m.call(smapi.DatapathOpen{URI: uri, Persistent: name != "forgetting"}, nil)
		m.call(smapi.DatapathAttach{URI: uri, Domain: "5"}, nil)
	}
	m.call(smapi.DatapathActivate{URI: m.uri("active"), Domain: "5"}, nil)
	key := m.killed(smapi.DatapathActivate{URI: m.uri("activating"), Domain: "5"}, "renameat2 staging/KEY.new leases/KEY", 1)
	m.unfinished("staging/" + key + ".new")
	m.want.Unfinished = append(m.want.Unfinished, "lease .reflinksr/leases/"+m.keys["active"]+": domain 5 on host "+makerHost+" (read-write, since 20")
	m.want.Unfinished = append(m.want.Unfinished, "throwaway .reflinksr/staging/"+m.keys["forgetting"]+"."+makerHost+".throwaway")
}

// release ends what inUse began.
func (m *maker) release() {
	for _, name := range []string{"active", "activating", "forgetting"} {
		if m.keys[name] == "" {
			continue
		}
		uri := m.uri(name)
		for _, method := range []string{"Datapath.deactivate", "Datapath.detach"} {
			m.call(rig.OfDatapath(method, uri, "5"), nil)
		}
		m.call(smapi.DatapathClose{URI: uri}, nil)
	}
}

// options makes an SR with other options.
func (m *maker) options() {
	m.create("options", map[string]string{"sector_size": "4096", "datacow": "on"})
	m.disk("checked", 4, false)
	m.write("checked", 0, 2)
	m.derive("snapshot", "Volume.snapshot", "checked")
	m.write("checked", 2)
}

// destroyed makes an SR whose destruction is interrupted.
func (m *maker) destroyed() {
	m.create("destroyed", map[string]string{})
	m.disk("gone", 2, false)
	m.write("gone", 0)
	m.derive("snapshot", "Volume.snapshot", "gone")
	m.killed(smapi.SRDestroy{SR: m.handle}, "unlinkat KEY", 1)
	m.want.Unfinished = []string{"unfinished sr.json.destroyed"}
	m.want.Destroyed, m.want.Disks = true, nil
	// What came there since is somebody's, whatever it is called.
	later := newUUID()
	if m.err == nil {
		m.fail(os.WriteFile(filepath.Join(m.path, later), contents{Size: 4096, Blocks: map[int]string{0: "since the end"}}.block(0), 0o644))
	}
	m.want.Foreign = []string{later}
}

// archive is what was made, as it is now, with what the records themselves say of time.
func (m *maker) archive() (*archive, error) {
	if m.err != nil {
		return nil, m.err
	}
	a, err := take(m.path)
	if err != nil {
		return nil, err
	}
	for key, d := range m.want.Disks {
		data, err := os.ReadFile(filepath.Join(m.path, key+".inf"))
		var r struct {
			Created string
			Origin  *origin
		}
		if err = errors.Join(err, json.Unmarshal(data, &r)); err != nil {
			return nil, err
		}
		if r.Created != "" {
			d.Created = r.Created
		}
		if d.Origin != nil && r.Origin != nil {
			d.Origin.At = r.Origin.At
		}
		m.want.Disks[key] = d
	}
	marker := "sr.json"
	if m.want.Destroyed {
		marker = "sr.json.destroyed"
	}
	var meta struct{ Filesystem struct{ Type, UUID string } }
	data, err := os.ReadFile(filepath.Join(m.path, marker))
	if err = errors.Join(err, json.Unmarshal(data, &meta)); err != nil {
		return nil, err
	}
	m.want.Filesystem = meta.Filesystem.Type + " " + meta.Filesystem.UUID
	slices.Sort(m.want.Unfinished)
	slices.Sort(m.want.Notes)
	m.want.Used = slices.Clone(m.want.Notes)
	for _, name := range []string{"read-only", "simple"} {
		if key := m.keys[name]; key != "" { // until it is snapshotted the first time
			m.want.Notes = append(m.want.Notes, "xfs: attributes "+key)
		}
	}
	for i, note := range m.want.Used {
		if key := m.keys["simple"]; key != "" && note == "size "+key {
			m.want.Used[i] = note + ".inf" // it was rounded up, and nothing else was changed
		}
	}
	a.want = m.want
	return a, nil
}
