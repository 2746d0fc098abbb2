package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/rundir"
	"reflinksr/internal/smapi"
	"reflinksr/internal/smapi/invoke"
	"reflinksr/scripts/owned"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
	"reflinksr/sr"
)

// The files of each filesystem are swapped so long, and until so many calls were made; by the
// quick command a fifth of the time.
const (
	swapTime = 10 * time.Second
	fewest   = 300
)

// callTimeout is what a call may take: two waits for a lock.
const callTimeout = 2*dirfs.LockTimeout + 20*time.Second

// TestSwapper has somebody replace the files of an SR by links, FIFOs, devices and
// directories and back, as fast as that goes, while calls are made. Nothing outside
// the SR is opened or changed, and every call ends with a well-formed answer.
func TestSwapper(t *testing.T) {
	tests.Root(t, "mounting filesystems and making device nodes")
	root := install(t)
	for _, kind := range []string{"btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			if err := scratch.Available(kind); err != nil {
				tests.Skip(t, err)
			}
			dir := t.TempDir()
			fs, err := scratch.Make(kind, 1<<30, filepath.Join(dir, "mnt"))
			if err != nil {
				t.Fatal(err)
			}
			defer fs.Remove()
			elsewhere := filepath.Join(dir, "elsewhere") // another filesystem
			if err := scratchTmpfs(elsewhere); err != nil {
				t.Fatal(err)
			}
			defer unix.Unmount(elsewhere, unix.MNT_DETACH)
			h := &hostile{t: t, root: root, dir: fs.Dir, tally: map[string]int{}, met: map[string]int{}}
			defer h.release()
			h.prepare(elsewhere)
			h.watch()
			h.run()
			h.judge()
		})
	}
}

func scratchTmpfs(dir string) error {
	_, err := scratch.Make("tmpfs", 64<<20, dir)
	return err
}

// hostile is an SR in the wrong hands.
type hostile struct {
	t         *testing.T
	root, dir string // of the plugins, of the filesystem

	own, other *victimSR
	keys       []string // of own's volumes; the last few that were made
	targets    []*target
	marker     []byte // own's
	events     int    // inotify's descriptor
	end        time.Time

	mutex sync.Mutex
	tally map[string]int // calls by their outcome
	met   map[string]int // calls that were refused because of what was planted
	calls int
	swaps int
	err   error
}

// victimSR is one of two: calls on the volumes of the one go on while the other is
// made and destroyed again and again.
type victimSR struct {
	path, uuid, handle string
	dir                int // a descriptor of path
	conf               map[string]string
}

// target is what lies outside the SR and must stay as it is.
type target struct {
	path   string
	linked bool // planted by a hard link, so its change time and link count are the swapper's
	before unix.Stat_t
	data   []byte
	names  []string // of a directory
}

// prepare makes the SR and what lies outside of it. The targets look like what they
// are put in the place of, so that whoever follows a link comes far.
func (h *hostile) prepare(elsewhere string) {
	h.own, h.other = h.newSR("own"), h.newSR("other")
	h.must(h.own.create(), &h.own.conf)
	h.must(smapi.SRAttach{Configuration: h.own.conf}, &h.own.handle)
	for range 3 {
		h.volume()
	}
	record, err := os.ReadFile(filepath.Join(h.own.path, h.keys[0]+".inf"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.marker, err = os.ReadFile(filepath.Join(h.own.path, "sr.json"))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, outside := range []string{filepath.Join(h.dir, "outside"), elsewhere} {
		for name, data := range map[string][]byte{
			"record": record, "marker": h.marker, "data": bytes.Repeat([]byte("not for guests\n"), 4096*3),
			"lease": []byte(`{"format":1,"holders":[]}`), "dir/known": []byte("known"), "dir/" + h.keys[0]: []byte("known"),
		} {
			path := filepath.Join(outside, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644), os.Chmod(path, 0o644)); err != nil {
				h.t.Fatal(err)
			}
			h.targets = append(h.targets, &target{path: path})
		}
		for name, mode := range map[string]uint32{"fifo": unix.S_IFIFO | 0o644, "zero": unix.S_IFCHR | 0o666} {
			path := filepath.Join(outside, name)
			if err := unix.Mknod(path, mode, int(unix.Mkdev(1, 5))); err != nil {
				h.t.Fatal(err)
			}
			h.targets = append(h.targets, &target{path: path})
		}
		h.targets = append(h.targets, &target{path: filepath.Join(outside, "dir")})
	}
	for _, x := range h.targets {
		x.linked = filepath.Dir(x.path) == filepath.Join(h.dir, "outside")
	}
	if err := os.Mkdir(filepath.Join(h.dir, "aside"), 0o700); err != nil {
		h.t.Fatal(err)
	}
	for _, x := range h.targets {
		if err := x.note(); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *hostile) newSR(name string) *victimSR {
	path := filepath.Join(h.dir, name)
	id, err := sr.NewKey() // an SR's UUID is any
	if err := errors.Join(err, os.Mkdir(path, 0o700)); err != nil {
		h.t.Fatal(err)
	}
	dir, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { unix.Close(dir) })
	return &victimSR{path: path, uuid: string(id), dir: dir}
}

func (s *victimSR) create() smapi.SRCreate {
	return smapi.SRCreate{UUID: s.uuid, Configuration: map[string]string{"path": s.path}}
}

// note remembers what the target is like. Its times are long ago, so that a read
// would show in the one (relatime, see mount(8)) and a write in the other.
func (x *target) note() (err error) {
	long := unix.NsecToTimespec(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	if err := unix.Lstat(x.path, &x.before); err != nil {
		return err
	}
	switch x.before.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		x.data, err = os.ReadFile(x.path)
	case unix.S_IFDIR:
		x.names, err = namesIn(x.path)
	}
	if err := errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, x.path, []unix.Timespec{long, long}, unix.AT_SYMLINK_NOFOLLOW)); err != nil {
		return err
	}
	return unix.Lstat(x.path, &x.before)
}

func namesIn(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// compare says what of the target has changed.
func (x *target) compare() error {
	var now unix.Stat_t
	if err := unix.Lstat(x.path, &now); err != nil {
		return err
	}
	was := x.before
	if x.linked && was.Mode&unix.S_IFMT != unix.S_IFDIR {
		was.Ctim, was.Nlink = now.Ctim, now.Nlink
	}
	if now != was {
		return fmt.Errorf("%s was %+v and is %+v", x.path, was, now)
	}
	switch now.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if data, err := os.ReadFile(x.path); err != nil || !bytes.Equal(data, x.data) {
			return fmt.Errorf("%s has other contents, %v", x.path, err)
		}
	case unix.S_IFDIR:
		if names, err := namesIn(x.path); err != nil || !slices.Equal(names, x.names) {
			return fmt.Errorf("%s held %q and holds %q, %v", x.path, x.names, names, err)
		}
	}
	return nil
}

// watch has the kernel tell of every use of a target. That a hard link is made and
// removed is the swapper's doing; for the rest even opening is too much. A regular
// file may be opened in the moment in which it has a name in the SR and no other.
func (h *hostile) watch() {
	var err error
	if h.events, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		h.t.Fatal(err)
	}
	for _, x := range h.targets {
		mask := uint32(unix.IN_OPEN | unix.IN_ACCESS | unix.IN_MODIFY | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVE)
		if x.linked && x.before.Mode&unix.S_IFMT == unix.S_IFREG {
			mask = unix.IN_ACCESS | unix.IN_MODIFY
		}
		if _, err := unix.InotifyAddWatch(h.events, x.path, mask); err != nil {
			h.t.Fatal(err)
		}
	}
}

// judge looks at the targets, and at whether anything was tried at all.
func (h *hostile) judge() {
	var buffer [64 << 10]byte
	n, err := unix.Read(h.events, buffer[:])
	if err != unix.EAGAIN {
		h.t.Errorf("something outside the SR was used: %s, %v", h.tell(buffer[:max(n, 0)]), err)
	}
	unix.Close(h.events)
	for _, x := range h.targets {
		if err := x.compare(); err != nil {
			h.t.Error(err)
		}
	}
	if h.err != nil {
		h.t.Error(h.err)
	}
	answered, refused := 0, 0
	for outcome, n := range h.tally {
		if strings.HasSuffix(outcome, " answered") {
			answered += n
		}
	}
	for _, n := range h.met {
		refused += n
	}
	h.t.Logf("%d swaps, %d calls answered, %d refused for what was planted", h.swaps, answered, refused)
	for _, outcome := range slices.Sorted(maps.Keys(h.tally)) {
		h.t.Logf("%6d %s", h.tally[outcome], outcome)
	}
	if answered == 0 || refused == 0 || h.swaps == 0 {
		h.t.Error("nothing was tried")
	}
}

// tell decodes inotify's events.
func (h *hostile) tell(events []byte) string {
	var all []string
	for len(events) >= unix.SizeofInotifyEvent {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&events[0]))
		name := ""
		if i := int(e.Wd) - 1; i >= 0 && i < len(h.targets) {
			name = h.targets[i].path
		}
		all = append(all, fmt.Sprintf("%s (%#x)", name, e.Mask))
		events = events[unix.SizeofInotifyEvent+int(e.Len):]
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
}

// run swaps and calls at the same time.
func (h *hostile) run() {
	h.end = time.Now().Add(tests.Share(swapTime/5, swapTime))
	var wait sync.WaitGroup
	wait.Go(func() { h.swap(rand.New(rand.NewPCG(0, 1))) })
	for seed := range uint64(3) {
		wait.Go(func() { h.work(rand.New(rand.NewPCG(seed, 2))) })
	}
	wait.Go(h.lives)
	wait.Wait()
}

// goOn says whether there is more to do.
func (h *hostile) goOn() bool {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return h.err == nil && (time.Now().Before(h.end) || h.calls < fewest)
}

// fail keeps the first thing that went wrong.
func (h *hostile) fail(err error) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.err == nil {
		h.err = err
	}
}

// swap replaces one name after the other, and puts back what was there.
func (h *hostile) swap(r *rand.Rand) {
	aside, err := unix.Open(filepath.Join(h.dir, "aside"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		h.fail(err)
		return
	}
	defer unix.Close(aside)
	for n := 0; h.goOn(); n++ {
		s := h.own
		if r.IntN(4) == 0 {
			s = h.other
		}
		below, name := h.name(s, r)
		dir, err := openDir(s.dir, below...)
		if err != nil {
			continue // SR.destroy has been here
		}
		thing := fmt.Sprint(n)
		path := filepath.Join(h.dir, "aside", thing)
		if err := h.thing(path, name, r); err != nil {
			h.fail(err)
		}
		if unix.Renameat2(aside, thing, dir, name, unix.RENAME_EXCHANGE) == nil {
			pause(r)
			unix.Renameat2(aside, thing, dir, name, unix.RENAME_EXCHANGE)
		} else if unix.Renameat2(aside, thing, dir, name, unix.RENAME_NOREPLACE) == nil {
			pause(r)
			unix.Renameat2(dir, name, aside, thing, unix.RENAME_NOREPLACE)
		}
		unix.Close(dir)
		os.RemoveAll(path) // a link is not followed
		h.mend(s, aside)
		h.mutex.Lock()
		h.swaps++
		h.mutex.Unlock()
	}
}

// mend puts the marker back if what was planted has become it: in staging, a moment
// before a call put it in place. With it every later call would be refused.
func (h *hostile) mend(s *victimSR, aside int) {
	var st unix.Stat_t
	err := unix.Fstatat(s.dir, "sr.json", &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink == 1 {
		return
	}
	path := filepath.Join(h.dir, "aside", "marker")
	if s == h.own {
		if err := os.WriteFile(path, h.marker, 0o600); err != nil {
			h.fail(err)
		}
		unix.Renameat2(aside, "marker", s.dir, "sr.json", unix.RENAME_EXCHANGE)
	} else {
		unix.Renameat2(s.dir, "sr.json", aside, "marker", unix.RENAME_NOREPLACE)
	}
	os.RemoveAll(path)
}

// openDir opens a directory below another, following nothing: what is swapped here
// must not be swapped outside.
func openDir(at int, below ...string) (int, error) {
	fd, err := unix.Openat(at, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for _, name := range below {
		if err != nil {
			break
		}
		up := fd
		fd, err = unix.Openat(up, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		unix.Close(up)
	}
	return fd, err
}

// pause leaves a thing in place for a moment of any length: none, between two system
// calls, and about a call's.
func pause(r *rand.Rand) {
	switch r.IntN(8) {
	case 0, 1, 2:
		time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
	case 3:
		time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond)
	}
}

// name picks one of an SR: of what is there, or of what a call is about to make.
func (h *hostile) name(s *victimSR, r *rand.Rand) (below []string, name string) {
	h.mutex.Lock()
	key := h.keys[r.IntN(len(h.keys))]
	h.mutex.Unlock()
	const control = ".reflinksr"
	pick := func(names ...string) string { return names[r.IntN(len(names))] }
	switch n := r.IntN(20); {
	case n < 8:
		return nil, pick(key, key+".inf")
	case n < 9:
		return nil, pick("sr.json", "sr.json.destroyed")
	case n < 10:
		return nil, control
	case n < 11:
		return []string{control}, pick("lock", "leases.lock", "staging", "leases", "locks")
	case n < 13:
		return []string{control, "locks"}, key
	case n < 15:
		return []string{control, "leases"}, key
	case n < 18:
		return []string{control, "staging"}, pick(key+".inf.new", key+".revert", key+".new", key+".inf", "sr.json.new")
	}
	// A volume that is being made, or a nonpersistent disk.
	below = []string{control, "staging"}
	if staged := h.staged(s); len(staged) > 0 {
		return below, pick(staged...)
	}
	return below, key
}

// staged lists what is in staging.
func (h *hostile) staged(s *victimSR) []string {
	fd, err := openDir(s.dir, ".reflinksr")
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	staging, err := unix.Openat(fd, "staging", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	dir := os.NewFile(uintptr(staging), "staging")
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	return names
}

// thing makes what is put in the place of a name.
func (h *hostile) thing(path, name string, r *rand.Rand) error {
	x := h.targets[r.IntN(len(h.targets))]
	if r.IntN(2) == 0 {
		x = h.likeness(name, r)
	}
	switch n := r.IntN(10); {
	case n == 0:
		return os.Mkdir(path, 0o700)
	case n == 1:
		return unix.Mknod(path, unix.S_IFIFO|0o600, 0)
	case n == 2:
		return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) // zero
	case n == 3:
		return os.Symlink(name, path) // to itself, once it is in place
	case n < 8 && x.linked && x.before.Mode&unix.S_IFMT != unix.S_IFDIR:
		return os.Link(x.path, path)
	default:
		return os.Symlink(x.path, path)
	}
}

// likeness picks a target that could be taken for what belongs in the place of a name.
func (h *hostile) likeness(name string, r *rand.Rand) *target {
	like := "data"
	switch {
	case strings.HasSuffix(name, ".inf"):
		like = "record"
	case strings.HasPrefix(name, "sr.json"):
		like = "marker"
	case !strings.Contains(name, "-"):
		like = "dir"
	}
	var all []*target
	for _, x := range h.targets {
		if filepath.Base(x.path) == like {
			all = append(all, x)
		}
	}
	return all[r.IntN(len(all))]
}

// work makes calls on the volumes of the first SR.
func (h *hostile) work(r *rand.Rand) {
	for h.goOn() {
		h.mutex.Lock()
		a, b := h.keys[r.IntN(len(h.keys))], h.keys[r.IntN(len(h.keys))]
		h.mutex.Unlock()
		sr, uri := h.own.handle, "loop+blkback://"+h.own.path+"/"+a+"?sr="+h.own.uuid
		switch r.IntN(24) {
		case 0:
			h.volume()
		case 1:
			h.keep(h.call(smapi.VolumeSnapshot{SR: sr, Key: a}))
		case 2:
			h.keep(h.call(smapi.VolumeClone{SR: sr, Key: a}))
		case 3:
			h.keep(h.call(smapi.VolumeCopy{SR: sr, Key: a, DestSR: sr}))
		case 4:
			h.call(smapi.VolumeDestroy{SR: sr, Key: a})
		case 5:
			h.call(smapi.VolumeRevert{SR: sr, Snapshot: b, Key: a})
		case 6:
			h.call(smapi.VolumeSetName{SR: sr, Key: a, NewName: "another"})
		case 7:
			h.call(smapi.VolumeSetDescription{SR: sr, Key: a, NewDescription: "another"})
		case 8:
			h.call(smapi.VolumeSet{SR: sr, Key: a, K: "a", V: "b"})
		case 9:
			h.call(smapi.VolumeUnset{SR: sr, Key: a, K: "a"})
		case 10:
			h.call(smapi.VolumeResize{SR: sr, Key: a, NewSize: (4 + r.Int64N(1<<10)) << 12})
		case 11:
			h.call(smapi.VolumeStat{SR: sr, Key: a})
		case 12:
			h.call(smapi.SRLs{SR: h.own.handle})
		case 13:
			h.call(smapi.SRStat{SR: h.own.handle})
		case 14:
			h.call(smapi.SRSetName{SR: h.own.handle, NewName: "another"})
		case 15:
			h.call(smapi.SRSetDescription{SR: h.own.handle, NewDescription: "another"})
		case 16:
			h.call(smapi.SRAttach{Configuration: h.own.conf})
		case 17:
			h.call(smapi.SRProbe{Configuration: map[string]string{"path": h.own.path}})
		case 18:
			h.call(smapi.PluginLs{})
		default: // a guest's life
			h.call(smapi.DatapathOpen{URI: uri, Persistent: r.IntN(2) == 0})
			h.call(smapi.DatapathAttach{URI: uri, Domain: "1"})
			if r.IntN(2) == 0 {
				h.call(smapi.DatapathActivate{URI: uri, Domain: "1"})
			} else {
				h.call(smapi.DatapathActivateReadonly{URI: uri, Domain: "1"})
			}
			h.call(smapi.DatapathDeactivate{URI: uri, Domain: "1"})
			h.call(smapi.DatapathDetach{URI: uri, Domain: "1"})
			h.call(smapi.DatapathClose{URI: uri})
		}
	}
}

// lives makes the other SR and destroys it, again and again.
func (h *hostile) lives() {
	for h.goOn() {
		h.call(h.other.create())
		conf := map[string]string{"path": h.other.path, "sr_uuid": h.other.uuid}
		var handle string
		if json.Unmarshal(h.call(smapi.SRAttach{Configuration: conf}), &handle) == nil {
			h.call(smapi.VolumeCreate{SR: handle, Size: 4096})
			h.call(smapi.SRDestroy{SR: handle})
			h.call(smapi.SRDetach{SR: handle})
		}
	}
}

// volume makes one more.
func (h *hostile) volume() {
	h.keep(h.call(smapi.VolumeCreate{SR: h.own.handle, Name: "disk", Size: 1 << 20}))
}

// keep remembers a volume that was made, in the place of an old one if they are many.
func (h *hostile) keep(answer json.RawMessage) {
	var made smapi.Volume
	if answer == nil || json.Unmarshal(answer, &made) != nil {
		return
	}
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.keys = append(h.keys, made.Key); len(h.keys) > 3 {
		h.keys = h.keys[1:]
	}
}

// must is for calls before anything is planted.
func (h *hostile) must(r smapi.Request, out any) {
	answer := h.call(r)
	if err := json.Unmarshal(answer, out); err != nil || h.err != nil {
		h.t.Fatalf("%s: %v, %v", r.Call(), err, h.err)
	}
}

// call makes one call in a process of its own. It ends in time, with an answer or a
// refusal of the interface; nil is returned for the latter.
func (h *hostile) call(r smapi.Request) json.RawMessage {
	command, err := calls(h.root, "swapper").Command(r)
	if err != nil {
		h.fail(err)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	out := command.Run(ctx)
	answer, outcome, bad := understood(out)
	if ctx.Err() != nil {
		bad = fmt.Errorf("no answer within %v", callTimeout)
	}
	if bad != nil {
		h.fail(fmt.Errorf("%s %s: %w", r.Call(), command.Request, bad))
	}
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.calls++
	h.tally[r.Call()+" "+outcome]++
	if bytes.Contains(out.Stdout.Bytes(), []byte("is refused: ")) {
		h.met[r.Call()]++
	}
	return answer
}

// understood takes the output of a call apart as the toolstack does.
func understood(out *invoke.Output) (answer json.RawMessage, outcome string, err error) {
	if stderr := out.Stderr.Bytes(); len(stderr) > 0 {
		return nil, "", fmt.Errorf("standard error: %.2000s", stderr)
	}
	answer, err = out.Answer()
	var refused *smapi.Failure
	switch {
	case err == nil:
		return answer, "answered", nil
	case !errors.As(err, &refused):
		return nil, "", err
	case refused.Code == smapi.BackendFailure:
		return nil, refused.Code + " " + refused.Params[0], nil
	}
	return nil, refused.Code, nil
}

// release ends what was attached, and what is noted of it on this host.
func (h *hostile) release() {
	bound, _ := owned.Loops(owned.Below(h.dir))
	owned.Detach(bound)
	for _, s := range []*victimSR{h.own, h.other} {
		for _, pattern := range []string{"sr/" + s.uuid + ".*", "volume/" + s.uuid + ".*"} {
			notes, _ := filepath.Glob(filepath.Join(rundir.Path, pattern))
			for _, note := range notes {
				os.Remove(note)
			}
		}
	}
}
