package cbt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/scripts/scratch"
	"reflinksr/sr"
)

// TestMain runs the tests where nobody else sees what they mount, or what the host knows of their SRs.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-test.fuzzworker") { // it talks to its parent, and mounts nothing
		os.Exit(m.Run())
	}
	status, again := scratch.Isolate()
	if again {
		os.Exit(status)
	}
	slog.SetDefault(slog.New(&complaints))
	os.Exit(m.Run())
}

// complaints are what was logged as an error: what a call could not do and did not say.
var complaints logged

type logged struct {
	mutex sync.Mutex
	lines []string
}

func (l *logged) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *logged) WithGroup(string) slog.Handler                    { return l }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += fmt.Sprintf(" %s=%v", a.Key, a.Value); return true })
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.lines = append(l.lines, line)
	return nil
}

// take answers what was logged since it was last called.
func (l *logged) take() []string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

// diskLayout is a way in which a filesystem lays out data.
type diskLayout struct {
	name  string
	kind  string // of scratch
	mount string // options
	conf  map[string]string
}

var layouts = []diskLayout{
	{name: "btrfs", kind: "btrfs", conf: map[string]string{"datacow": "on"}},
	{name: "btrfs-nodatacow", kind: "btrfs"},
	{name: "btrfs-zstd", kind: "btrfs", mount: "compress=zstd", conf: map[string]string{"datacow": "on"}},
	{name: "xfs", kind: "xfs"},
	{name: "xfs-4096", kind: "xfs", conf: map[string]string{"sector_size": "4096"}},
}

// bed is an attached SR on a filesystem of its own.
type bed struct {
	dir    string // the SR's
	uuid   string
	handle string
	conf   map[string]string
}

// newBed makes one, on a filesystem of size bytes.
func newBed(tb testing.TB, l diskLayout, size int64) *bed {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("mounting filesystems and attaching loop devices needs root")
	}
	if err := scratch.Available(l.kind); err != nil {
		tb.Skip(err)
	}
	fs, err := scratch.Make(l.kind, size, filepath.Join(tb.TempDir(), "mnt"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := fs.Remove(); err != nil {
			tb.Error(err)
		}
	})
	if err := unix.Mount("", fs.Dir, "", unix.MS_REMOUNT, l.mount); err != nil {
		tb.Fatal(err)
	}
	uuid, err := sr.NewKey() // an SR's UUID is any
	if err != nil {
		tb.Fatal(err)
	}
	conf := map[string]string{"path": fs.Dir}
	for k, v := range l.conf {
		conf[k] = v
	}
	b := &bed{dir: fs.Dir, uuid: string(uuid)}
	if b.conf, err = sr.Create(b.uuid, conf, "", ""); err == nil {
		b.handle, err = sr.Attach(b.conf)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := sr.Detach(b.handle); err != nil {
			tb.Error(err)
		}
	})
	return b
}

// settle waits until XFS has given back the blocks of all files that were removed, which
// it does when it has time: until then they look shared, and are kept until the next
// occasion. It is a side effect of XFS_IOC_FREE_EOFBLOCKS (linux/xfs_fs.h), of which
// nothing else is wanted: no file is as long as the shortest that is meant.
func (b *bed) settle() error {
	dir, err := os.Open(b.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	request := struct { // struct xfs_fs_eofblocks
		version, flags, uid, gid, prid, _ uint32
		minFileSize                       uint64
		_                                 [12]uint64
	}{version: 1, flags: 1 << 4, minFileSize: 1 << 62}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), 0x8080583a, uintptr(unsafe.Pointer(&request)))
	if errno != 0 && !errors.Is(errno, unix.ENOTTY) { // ENOTTY: another filesystem
		return fmt.Errorf("waiting for what XFS does later: %w", errno)
	}
	return nil
}
