package scripts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/extent"
)

func (s *script) shared(_ bool, args []string) error {
	return s.usage("shared", args, func(u extent.Usage) int64 { return u.Shared })
}

func (s *script) exclusive(_ bool, args []string) error {
	return s.usage("exclusive", args, func(u extent.Usage) int64 { return u.Exclusive })
}

func (s *script) extents(_ bool, args []string) error {
	if len(args) != 2 {
		return usage("extents")
	}
	f, err := os.Open(filepath.Join(s.ts.Getenv("SR_PATH"), args[1]))
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := extent.Count(f)
	s.setenv(args[0], strconv.Itoa(n))
	return err
}

func (s *script) usage(verb string, args []string, of func(extent.Usage) int64) error {
	if len(args) != 2 {
		return usage(verb)
	}
	want, err := ParseBytes(args[1])
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(s.ts.Getenv("SR_PATH"), args[0]))
	if err != nil {
		return err
	}
	defer f.Close()
	u, err := extent.UsageOf(f)
	if err != nil {
		return err
	}
	if got := of(u); got != want {
		return fmt.Errorf("%d bytes, want %d (%d shared and %d exclusive in %d extents)", got, want, u.Shared, u.Exclusive, u.Extents)
	}
	return nil
}

// free measures the free space. btrfs and XFS give space back a little later.
func (s *script) free(_ bool, args []string) error {
	if len(args) != 1 {
		return usage("free")
	}
	dir, err := os.Open(s.ts.Getenv("MNT"))
	if err != nil {
		return err
	}
	defer dir.Close()
	last := int64(-1)
	for deadline := time.Now().Add(20 * time.Second); ; {
		if err := unix.Syncfs(int(dir.Fd())); err != nil {
			return err
		}
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
			return err
		}
		now := int64(st.Bavail) * st.Bsize
		if now == last || time.Now().After(deadline) {
			s.setenv(args[0], strconv.FormatInt(now, 10))
			return nil
		}
		last = now
		time.Sleep(100 * time.Millisecond)
	}
}

func (s *script) within(not bool, args []string) error {
	if len(args) != 3 {
		return usage("within")
	}
	var n [3]int64
	for i, arg := range args {
		var err error
		if n[i], err = ParseBytes(arg); err != nil {
			return err
		}
	}
	d := max(n[0]-n[1], n[1]-n[0])
	switch {
	case d > n[2] && !not:
		return fmt.Errorf("%d and %d differ by %d, more than %d", n[0], n[1], d, n[2])
	case d <= n[2] && not:
		return fmt.Errorf("%d and %d differ by %d, not more than %d", n[0], n[1], d, n[2])
	}
	return nil
}

// full leaves no room for a byte of data nor, as far as the filesystem has such a
// limit, for a file.
func (s *script) full(_ bool, args []string) error {
	mnt := s.ts.Getenv("MNT")
	f, err := os.OpenFile(filepath.Join(mnt, "ballast"), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 4 << 20; size >= 4096; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			f.Sync()
			size /= 4
		} else if err != nil {
			return err
		}
	}
	for i := range 4000 {
		err := os.WriteFile(filepath.Join(mnt, fmt.Sprintf("ballast-%d", i)), make([]byte, 4096), 0o600)
		if errors.Is(err, unix.ENOSPC) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *script) remount(_ bool, args []string) error {
	if len(args) != 1 || args[0] != "ro" && args[0] != "rw" {
		return usage("remount")
	}
	fs, err := s.mounted()
	if err != nil {
		return err
	}
	return fs.Remount(args[0] == "ro")
}

func (s *script) vanish(_ bool, _ []string) error {
	fs, err := s.mounted()
	if err != nil {
		return err
	}
	return fs.Unmount()
}

func (s *script) comeBack(_ bool, _ []string) error {
	fs, err := s.mounted()
	if err != nil {
		return err
	}
	defer s.know(fs.Dir)
	// A process with mounts of its own, in another scenario, may have a copy of ours for as long as it lives. A filesystem that
	// has shut itself down is the same then, mounted again.
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err := fs.Mount(); err != nil {
			return err
		}
		if _, err := os.ReadDir(fs.Dir); !errors.Is(err, unix.EIO) || time.Now().After(end) {
			return err
		}
		if err := fs.Unmount(); err != nil {
			return err
		}
	}
}

func (s *script) loops(_ bool, args []string) error {
	if len(args) != 2 {
		return usage("loops")
	}
	if n := loopsOf(args[0]); strconv.Itoa(n) != args[1] {
		return fmt.Errorf("%d loop devices, want %s", n, args[1])
	}
	return nil
}

// leak looks for what should be gone.
func (s *script) leak(_ bool, _ []string) error {
	var left []string
	for _, path := range s.loopsBelow() {
		left = append(left, "loop device "+path)
	}
	for key := range s.everyKey() {
		if len(s.loopsWhere(func(file string) bool { return strings.Contains(filepath.Base(file), key) })) > 0 {
			left = append(left, "loop device of volume "+key)
		}
	}
	if s.config.Own {
		for _, uuid := range s.uuids {
			states, _ := filepath.Glob("/run/reflinksr/volume/" + uuid + ".*")
			left = append(left, states...)
			left = append(left, fileLinks(uuid)...)
			left = append(left, servers(uuid)...)
		}
		for _, fs := range s.filesystems {
			left = append(left, leftIn(fs.Dir)...)
		}
		for _, uuid := range s.uuids {
			left = append(left, leftInSR(mountPoint(uuid))...)
		}
		left = append(left, s.mountsLeft()...)
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	return nil
}

// servers lists what there is of processes that serve disks of an SR by NBD.
func servers(uuid string) []string {
	files, _ := filepath.Glob("/run/reflinksr/nbd/" + uuid + ".*")
	return files
}

// awaitServers waits until those have ended that the scenario left: without notes there is nothing to serve.
func (s *script) awaitServers() {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if !slices.ContainsFunc(s.uuids, func(uuid string) bool { return len(servers(uuid)) > 0 }) {
			return
		}
	}
}

// fileLinks lists the links below /dev by which dom0 may read disks of an SR as files.
func fileLinks(uuid string) []string {
	links, _ := filepath.Glob("/dev/reflinksr/" + uuid + ".*")
	return links
}

func (s *script) isImage(name string) bool {
	for _, d := range s.devices {
		if strings.HasPrefix(name, d.image) {
			return true
		}
	}
	for _, fs := range s.filesystems {
		if strings.HasPrefix(name, fs.Dir+".img") {
			return true
		}
	}
	return false
}

// leftIn lists what should not outlive a call in the SRs directly below dir.
func leftIn(dir string) []string { return leftInSR(filepath.Join(dir, "*")) }

// leftInSR lists it in the SRs that a pattern matches.
func leftInSR(srs string) []string {
	var left []string
	for _, pattern := range []string{".reflinksr/staging/*", ".reflinksr/leases/*"} {
		found, _ := filepath.Glob(filepath.Join(srs, pattern))
		left = append(left, found...)
	}
	locks, _ := filepath.Glob(filepath.Join(srs, ".reflinksr/locks/*"))
	for _, lock := range locks {
		record := filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(lock))), filepath.Base(lock)+".inf")
		if _, err := os.Stat(record); err != nil {
			left = append(left, lock)
		}
	}
	notes, _ := filepath.Glob(filepath.Join(srs, ".reflinksr/cbt/*"))
	for _, note := range notes { // one that ends with .todo has no such volume either
		record := filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(note))), filepath.Base(note)+".inf")
		if _, err := os.Stat(record); err != nil {
			left = append(left, note)
		}
	}
	data, _ := filepath.Glob(filepath.Join(srs, "????????-????-????-????-????????????"))
	for _, d := range data {
		if _, err := os.Stat(d + ".inf"); err != nil {
			left = append(left, d)
		}
	}
	return left
}
