package main

import (
	"bytes"
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/smapi"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

var mirrorOperations = flag.Int("mirror.operations", 300, "operations on disks that are mirrored away, on each filesystem; 100,000 take some minutes")

// What a guest writes, discards and makes zeros while its disk is mirrored away is at the other side when it gives its disk back, whenever that is.
func TestMirroredAway(t *testing.T) {
	tests.Root(t, "mounting filesystems")
	root := install(t)
	for _, kind := range []string{"btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			fs, err := scratch.Make(kind, 1<<30, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { fs.Remove() })
			r := &receiver{TB: t, Plugin: calls(root, "mirrored away"), rand: rand.New(rand.NewPCG(uint64(len(kind)), 11))}
			r.makeSR(fs.Dir)
			defer func() { r.call(smapi.SRDetach{SR: r.sr}, nil) }()
			for done := 0; done < *mirrorOperations; {
				done += r.away(min(*mirrorOperations-done, 50+r.rand.IntN(400)))
			}
		})
	}
}

const awaySize = 16 << 20

// away mirrors one disk while a guest does so many things to it, and returns how many it did.
func (r *receiver) away(operations int) int {
	var disk, leaf smapi.Volume
	r.call(smapi.VolumeCreate{SR: r.sr, Name: "disk", Size: awaySize}, &disk)
	r.call(smapi.VolumeCreate{SR: r.sr, Name: "leaf", Size: awaySize}, &leaf)
	var b smapi.Backend
	r.call(smapi.DatapathAttach{URI: disk.URI[0], Domain: "5"}, &b)
	r.call(smapi.DatapathActivate{URI: disk.URI[0], Domain: "5"}, nil)
	device, err := os.OpenFile(b.Path(), os.O_RDWR, 0)
	if err != nil {
		r.Fatal(err)
	}
	defer device.Close()
	model := make([]byte, awaySize)
	g := guestOf{r, device, model, r.rand}
	for range 40 { // before
		g.operate()
	}
	const domain = "MIR00ff00"
	r.call(smapi.DatapathAttach{URI: leaf.URI[0], Domain: domain}, &b)
	r.call(smapi.DatapathActivate{URI: leaf.URI[0], Domain: domain}, nil)
	socket, _, _ := strings.Cut(strings.TrimPrefix(b.Implementations[len(b.Implementations)-1].Nbd.URI, "nbd:unix:"), ":")
	var mirror smapi.Operation
	r.call(smapi.DataMirror{URI: disk.URI[0], Domain: "5", Remote: "nbd+unix:///" + leaf.Key + "?socket=" + socket}, &mirror)

	var all sync.WaitGroup
	all.Go(func() {
		for range operations {
			g.operate()
			time.Sleep(time.Duration(g.rand.IntN(3000)) * time.Microsecond)
		}
	})
	for complete := false; !complete; {
		var status smapi.Status
		r.call(smapi.DataStat{Operation: mirror}, &status)
		if status.Failed {
			r.Fatal("the mirror has failed")
		}
		complete = status.Complete
	}
	all.Wait()
	if err := device.Sync(); err != nil {
		r.Fatal(err)
	}
	if r.rand.IntN(4) == 0 {
		r.cutOff(disk, mirror, model)
		r.call(smapi.DatapathDetach{URI: leaf.URI[0], Domain: domain}, nil)
		r.call(smapi.VolumeDestroy{SR: r.sr, Key: leaf.Key}, nil)
		device.Close()
		r.call(smapi.DatapathDetach{URI: disk.URI[0], Domain: "5"}, nil)
		r.call(smapi.VolumeDestroy{SR: r.sr, Key: disk.Key}, nil)
		return operations
	}
	r.call(smapi.DatapathDeactivate{URI: disk.URI[0], Domain: "5"}, nil)
	device.Close()
	r.call(smapi.DatapathDetach{URI: disk.URI[0], Domain: "5"}, nil)
	r.call(smapi.DatapathDetach{URI: leaf.URI[0], Domain: domain}, nil)
	r.call(smapi.DatapathAttach{URI: leaf.URI[0], Domain: "6"}, &b)
	r.call(smapi.DatapathActivateReadonly{URI: leaf.URI[0], Domain: "6"}, nil)
	got, err := os.ReadFile(b.Path())
	if err != nil {
		r.Fatal(err)
	}
	for at := 0; at < awaySize; at += 512 {
		if !bytes.Equal(got[at:at+512], model[at:at+512]) {
			r.Fatalf("sector %d is %q…, want %q…", at/512, got[at:at+16], model[at:at+16])
		}
	}
	r.call(smapi.DatapathDetach{URI: leaf.URI[0], Domain: "6"}, nil)
	r.call(smapi.VolumeDestroy{SR: r.sr, Key: leaf.Key}, nil)
	r.call(smapi.VolumeDestroy{SR: r.sr, Key: disk.Key}, nil)
	return operations
}

// cutOff kills a mirror that is complete: the toolstack, which counts on it, is told, and the guest's disk is what it was.
func (r *receiver) cutOff(disk smapi.Volume, mirror smapi.Operation, model []byte) {
	sr, _, _ := strings.Cut(*mirror.MirrorV1, ".")
	text, err := os.ReadFile("/run/reflinksr/nbd/" + sr + "." + disk.Key + ".out.lock")
	if err != nil {
		r.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		r.Fatal(err)
	}
	for failed := false; !failed; {
		var status smapi.Status
		r.call(smapi.DataStat{Operation: mirror}, &status)
		failed = status.Failed && !status.Complete
	}
	if err := r.Do(context.Background(), smapi.DatapathDeactivate{URI: disk.URI[0], Domain: "5"}, new(any)); err == nil {
		r.Fatal("the disk was given back, although what was written last is not at the other side")
	}
	r.call(smapi.DatapathDeactivate{URI: disk.URI[0], Domain: "5"}, nil)
	var b smapi.Backend
	r.call(smapi.DatapathAttach{URI: disk.URI[0], Domain: "7"}, &b)
	r.call(smapi.DatapathActivateReadonly{URI: disk.URI[0], Domain: "7"}, nil)
	got, err := os.ReadFile(b.Path())
	if err != nil || !bytes.Equal(got, model) {
		r.Fatalf("the guest's disk is another than before (%v)", err)
	}
	r.call(smapi.DatapathDetach{URI: disk.URI[0], Domain: "7"}, nil)
}

// guestOf does things to a disk, and to what it should hold.
type guestOf struct {
	t      *receiver
	device *os.File
	model  []byte
	rand   *rand.Rand
}

func (g guestOf) operate() {
	at := g.rand.IntN(len(g.model) / 512)
	length := min(1+g.rand.IntN(64), len(g.model)/512-at)
	part := g.model[at*512:][:length*512]
	offset := [2]uint64{uint64(at) * 512, uint64(length) * 512}
	var err error
	switch g.rand.IntN(8) {
	case 0: // BLKDISCARD of whole blocks: it reads as zeros on a loop device
		at, length = at&^7, (length+7)&^7
		length = min(length, len(g.model)/512-at)
		part, offset = g.model[at*512:][:length*512], [2]uint64{uint64(at) * 512, uint64(length) * 512}
		clear(part)
		err = blockIoctl(g.device, unix.BLKDISCARD, &offset)
	case 1:
		clear(part)
		err = blockIoctl(g.device, unix.BLKZEROOUT, &offset)
	case 2:
		clear(part)
		_, err = g.device.WriteAt(part, int64(offset[0]))
	default:
		copy(part, bytes.Repeat([]byte{byte(1 + g.rand.IntN(255))}, len(part)))
		_, err = g.device.WriteAt(part, int64(offset[0]))
	}
	if err != nil {
		g.t.Error(err)
	}
	if g.rand.IntN(20) == 0 {
		if err := g.device.Sync(); err != nil {
			g.t.Error(err)
		}
	}
}

// blockIoctl makes a request about a range of a block device: its offset and length in bytes.
func blockIoctl(f *os.File, request uintptr, bytes *[2]uint64) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(bytes))); errno != 0 {
		return errno
	}
	return nil
}
