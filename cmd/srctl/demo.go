package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/plugin"
	"reflinksr/internal/extent"
	"reflinksr/internal/smapi"
	"reflinksr/internal/smapi/invoke"
	"reflinksr/internal/units"
	"reflinksr/scripts/scratch"
)

const (
	demoFilesystem = 2 << 30
	demoDisk       = 512 << 20
	demoGrown      = 1 << 30
	demoFile       = 64 << 20
)

// story is a running demonstration.
type story struct {
	ctx context.Context
	out io.Writer
	dir string // everything is below it

	fs     *scratch.FS
	ext4   bool // mkfs.ext4 and e2fsck are there
	sr     string
	srPath string
	uris   map[string]string // by key
	plugs  [][2]string       // uri, domain: to be unplugged
}

func (s *session) demo() *cobra.Command {
	var kind string
	c := command("demo", "show the main job on a throw-away filesystem",
		`demo makes a throw-away filesystem, an SR on it, and a disk with an ext4; takes a
snapshot while files are being written, clones it, grows the disk and reverts it,
and tells how long each call took. It cleans up after itself. It needs root.`,
		`  srctl demo
  srctl demo --fs xfs`, 0, 0, func(ctx context.Context, _ []string) error { return demonstrate(ctx, kind, s.out) })
	c.Flags().StringVar(&kind, "fs", "", "btrfs or xfs (by default the one that can be had)")
	return c
}

func demonstrate(ctx context.Context, kind string, out io.Writer) error {
	if os.Getuid() != 0 {
		return errors.New("the demonstration mounts a filesystem and attaches loop devices, which needs root: sudo")
	}
	// In a mount namespace of its own: nobody else sees the mounts, and they go
	// with the process however it ends.
	if status, again := scratch.Isolate(); again {
		os.Exit(status)
	}
	if kind == "" {
		kind = "btrfs"
		if scratch.Available(kind) != nil {
			kind = "xfs"
		}
	}
	if kind != "btrfs" && kind != "xfs" {
		return fmt.Errorf("--fs %s: btrfs or xfs", kind)
	}
	ctx, cancel := signal.NotifyContext(ctx, os.Interrupt, unix.SIGTERM)
	defer cancel()
	dir, err := os.MkdirTemp("", "reflinksr-demo-")
	if err != nil {
		return err
	}
	s := &story{ctx: ctx, out: out, dir: dir, uris: map[string]string{}, ext4: has("mkfs.ext4") && has("e2fsck")}
	err = s.tell(kind)
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	if e := s.cleanUp(); e != nil {
		err = errors.Join(err, fmt.Errorf("cleaning up: %w", e))
	}
	if err == nil {
		fmt.Fprintln(out, "\nEverything is cleaned up.")
	}
	return err
}

func has(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// tell is the main job.
func (s *story) tell(kind string) error {
	fs, err := scratch.Make(kind, demoFilesystem, filepath.Join(s.dir, "mnt"))
	if err != nil {
		return err
	}
	s.fs = fs
	s.say("A throw-away %s of %s, and the plugin's directories beside it.", kind, units.Bytes(demoFilesystem))
	if err := plugin.Install([]string{"-root", s.dir}, io.Discard); err != nil {
		return err
	}
	if err := s.createSR(); err != nil {
		return err
	}
	return s.useDisk()
}

func (s *story) createSR() error {
	s.say("\nThe toolstack makes an SR in a directory and attaches it.")
	s.srPath = filepath.Join(s.fs.Dir, "sr")
	if err := os.Mkdir(s.srPath, 0o700); err != nil {
		return err
	}
	create := smapi.SRCreate{UUID: uuid.NewString(), Configuration: map[string]string{"path": s.srPath}, Name: "demo"}
	conf, err := call(s, create, nil)
	if err != nil {
		return err
	}
	s.sr, err = call(s, smapi.SRAttach{Configuration: conf}, nil)
	return err
}

func (s *story) useDisk() error {
	free, err := s.free()
	if err != nil {
		return err
	}
	s.say("\nA disk for a guest: a sparse file, attached as a block device.")
	disk, err := s.volume(smapi.VolumeCreate{SR: s.sr, Name: "disk", Size: demoDisk}, units.Bytes(demoDisk))
	if err != nil {
		return err
	}
	device, err := s.plug(disk, "1")
	if err != nil {
		return err
	}
	in, err := s.fillDisk(device)
	if err != nil {
		return err
	}

	s.say("\nA snapshot, while the guest is writing.")
	stop := s.keepWriting(in)
	snap, err := s.volume(smapi.VolumeSnapshot{SR: s.sr, Key: disk}, "its blocks are shared")
	written, werr := stop()
	if err := errors.Join(err, werr); err != nil {
		return err
	}
	u, err := s.usage(snap)
	if err != nil {
		return err
	}
	s.say("  %s shared with the disk, %s of its own; the guest wrote %s meanwhile.", units.Bytes(u.Shared), units.Bytes(u.Exclusive), units.Bytes(written))

	s.say("\nA clone of the snapshot, in another guest.")
	clone, err := s.volume(smapi.VolumeClone{SR: s.sr, Key: snap}, "writable")
	if err != nil {
		return err
	}
	if err := s.inspectClone(clone, in); err != nil {
		return err
	}

	s.say("\nThe disk grows under the running guest.")
	if err := s.do(smapi.VolumeResize{SR: s.sr, Key: disk, NewSize: demoGrown}, units.Bytes(demoGrown)); err != nil {
		return err
	}
	size, err := deviceSize(device)
	if err != nil {
		return err
	}
	s.say("  %s has %s now.", device, units.Bytes(size))

	s.say("\nBack to the snapshot: the disk keeps its identity and gets the old contents.")
	if err := errors.Join(s.leave(in), s.unplug(disk, "1")); err != nil {
		return err
	}
	if err := s.do(smapi.VolumeRevert{SR: s.sr, Snapshot: snap, Key: disk}, ""); err != nil {
		return err
	}
	equal, err := sameContents(filepath.Join(s.srPath, disk), filepath.Join(s.srPath, snap))
	if err != nil {
		return err
	}
	if !equal {
		return errors.New("the reverted disk is not what the snapshot holds")
	}
	s.say("  Byte for byte what the snapshot holds.")

	s.say("\nEverything is destroyed, in no particular order; nothing is coalesced.")
	for _, key := range []string{snap, disk, clone} {
		if err := s.do(smapi.VolumeDestroy{SR: s.sr, Key: key}, ""); err != nil {
			return err
		}
	}
	left, err := s.free()
	if err != nil {
		return err
	}
	s.say("  %s were free before, %s are free now.", units.Bytes(free), units.Bytes(left))
	if err := s.do(smapi.SRDestroy{SR: s.sr}, ""); err != nil {
		return err
	}
	err = s.do(smapi.SRDetach{SR: s.sr}, "")
	s.sr = ""
	return err
}

// fillDisk puts something in the disk, an ext4 if that can be made, and returns
// the file that the guest writes to from now on.
func (s *story) fillDisk(device string) (string, error) {
	if !s.ext4 {
		s.say("  (mkfs.ext4 is not installed: the guest writes to the bare disk)")
		return device, writeRandom(device, demoFile)
	}
	if err := s.shell("mkfs.ext4", "-q", device); err != nil {
		return "", err
	}
	guest := filepath.Join(s.dir, "guest")
	if err := os.Mkdir(guest, 0o700); err != nil {
		return "", err
	}
	if err := unix.Mount(device, guest, "ext4", 0, ""); err != nil {
		return "", fmt.Errorf("mounting the guest's ext4: %w", err)
	}
	s.say("  The guest makes an ext4 on %s, mounts it and writes a file of %s.", device, units.Bytes(demoFile))
	return filepath.Join(guest, "busy"), writeRandom(filepath.Join(guest, "file"), demoFile)
}

// keepWriting writes in the background until stopped, which tells how much.
func (s *story) keepWriting(path string) (stop func() (int64, error)) {
	ctx, cancel := context.WithCancel(s.ctx)
	type result struct {
		n   int64
		err error
	}
	done := make(chan result, 1)
	started := make(chan struct{}) // closed when something is written, or never will be
	go func() {
		begin := sync.OnceFunc(func() { close(started) })
		defer begin()
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			done <- result{0, err}
			return
		}
		block, n := bytes.Repeat([]byte("busy"), 64<<10), int64(0)
		for ctx.Err() == nil && err == nil {
			_, err = f.WriteAt(block, demoFile+n%(16<<20))
			n += int64(len(block))
			begin()
		}
		done <- result{n, errors.Join(err, f.Close())}
	}()
	<-started
	return func() (int64, error) {
		cancel()
		r := <-done
		return r.n, r.err
	}
}

// inspectClone looks at the clone as its guest would.
func (s *story) inspectClone(clone, in string) error {
	device, err := s.plug(clone, "2")
	if err != nil {
		return err
	}
	if s.ext4 {
		dir := filepath.Join(s.dir, "second")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := unix.Mount(device, dir, "ext4", 0, ""); err != nil {
			return fmt.Errorf("mounting the clone: %w", err)
		}
		equal, err := sameContents(filepath.Join(dir, "file"), filepath.Join(filepath.Dir(in), "file"))
		if err = errors.Join(err, unix.Unmount(dir, 0)); err != nil {
			return err
		}
		if !equal {
			return errors.New("the clone does not hold the guest's file")
		}
		if err := s.shell("e2fsck", "-fn", device); err != nil {
			return err
		}
		s.say("  Its ext4 replays its journal, holds the same file, and is clean (e2fsck -fn).")
	}
	return s.unplug(clone, "2")
}

// leave ends what the guest does with its disk.
func (s *story) leave(in string) error {
	if !s.ext4 {
		return nil
	}
	return unix.Unmount(filepath.Dir(in), 0)
}

// volume makes a call that answers a volume and returns its key.
func (s *story) volume(r smapi.Asks[smapi.Volume], note string) (string, error) {
	v, err := call(s, r, func(smapi.Volume) string { return note })
	if err != nil {
		return "", err
	}
	s.uris[v.Key] = v.URI[0]
	return v.Key, nil
}

// plug gives a domain the disk and returns its device.
func (s *story) plug(key, domain string) (string, error) {
	s.plugs = append(s.plugs, [2]string{s.uris[key], domain})
	backend, err := call(s, smapi.DatapathAttach{URI: s.uris[key], Domain: domain}, smapi.Backend.Path)
	if err == nil {
		err = s.do(smapi.DatapathActivate{URI: s.uris[key], Domain: domain}, "")
	}
	return backend.Path(), err
}

func (s *story) unplug(key, domain string) error {
	if err := s.do(smapi.DatapathDeactivate{URI: s.uris[key], Domain: domain}, ""); err != nil {
		return err
	}
	return s.do(smapi.DatapathDetach{URI: s.uris[key], Domain: domain}, "")
}

// do makes a call that has no result, and tells of it with a note.
func (s *story) do(r smapi.Asks[smapi.Unit], note string) error {
	_, err := call(s, r, func(smapi.Unit) string { return note })
	return err
}

// call makes one call as the toolstack does, and tells of it with what note says of the answer.
// A call that has begun ends by itself, whatever happens to us.
func call[Result any](s *story, r smapi.Asks[Result], note func(Result) string) (answer Result, err error) {
	if err := s.ctx.Err(); err != nil {
		return answer, err
	}
	volume, datapath := plugin.Directories(s.dir)
	command, err := invoke.Plugin{Volume: volume, Datapath: datapath, Debug: "demo"}.Command(r)
	if err != nil {
		return answer, err
	}
	out := command.Run(context.Background())
	var refused *smapi.Failure
	switch err := out.Into(&answer); {
	case errors.As(err, &refused):
		return answer, errors.New(refused.Backtrace.Error)
	case err != nil:
		return answer, fmt.Errorf("%s: %w", r.Call(), err)
	}
	about := ""
	if note != nil {
		about = note(answer)
	}
	s.say("  %-22s %7.1f ms   %s", r.Call(), float64(out.Took.Microseconds())/1000, about)
	return answer, nil
}

func (s *story) say(format string, args ...any) {
	fmt.Fprintln(s.out, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

func (s *story) shell(name string, args ...string) error {
	out, err := exec.CommandContext(s.ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

func (s *story) usage(key string) (extent.Usage, error) {
	f, err := os.Open(filepath.Join(s.srPath, key))
	if err != nil {
		return extent.Usage{}, err
	}
	defer f.Close()
	return extent.UsageOf(f)
}

// free is the free space once the filesystem has settled.
func (s *story) free() (int64, error) {
	d, err := os.Open(s.fs.Dir)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	var st unix.Statfs_t
	for range 3 {
		if err := unix.Syncfs(int(d.Fd())); err != nil {
			return 0, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	err = unix.Fstatfs(int(d.Fd()), &st)
	return int64(st.Bavail) * st.Bsize, err // #nosec G115 -- of a filesystem: below 2^63 bytes
}

// cleanUp leaves nothing, wherever the story ended.
func (s *story) cleanUp() error {
	s.ctx = context.Background()
	s.out = io.Discard
	for _, dir := range []string{"guest", "second"} {
		unix.Unmount(filepath.Join(s.dir, dir), unix.MNT_DETACH)
	}
	for _, p := range s.plugs {
		s.do(smapi.DatapathDeactivate{URI: p[0], Domain: p[1]}, "")
		s.do(smapi.DatapathDetach{URI: p[0], Domain: p[1]}, "")
	}
	if s.sr != "" {
		s.do(smapi.SRDestroy{SR: s.sr}, "")
		s.do(smapi.SRDetach{SR: s.sr}, "")
	}
	var err error
	if s.fs != nil {
		err = s.fs.Remove()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

func writeRandom(path string, n int64) error {
	random, err := os.Open("/dev/urandom")
	if err != nil {
		return err
	}
	defer random.Close()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, random, n)
	return errors.Join(err, f.Sync(), f.Close())
}

func sameContents(a, b string) (bool, error) {
	x, err := digest(a)
	if err != nil {
		return false, err
	}
	y, err := digest(b)
	return x == y, err
}

func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

func deviceSize(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Seek(0, io.SeekEnd)
}
