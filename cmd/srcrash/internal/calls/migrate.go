package calls

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/internal/nbd"
	"reflinksr/internal/smapi"
	"reflinksr/scripts/tapdisk"
)

// MigrateCommand is the word by which the running program moves a disk, as the toolstack and the other host do it: the calls, and who writes to the
// disk that comes, or takes the one that goes.
const MigrateCommand = "migrate"

// route is what such a process is told, on standard input.
type route struct {
	Plugin      rig.Plugin
	SR          string
	Main, Layer place
	Peer        string // a directory of the other host
}

// place is a volume.
type place struct{ Key, URI, Data string }

// Domains that have the disks: of a mirror, of a copy, and the guest's.
const (
	mirrorDomain = "MIR00ff00"
	copyDomain   = "CP00ff00"
	guestDomain  = "1"
)

// step is something that is written to a disk on its way.
type step struct {
	main           bool   // to main, and not to the layer
	offset, length int64  // bytes
	fill           string // 8 bytes; "" zeros
}

func (s step) data() []byte {
	if s.fill == "" {
		return make([]byte, s.length)
	}
	return bytes.Repeat([]byte(s.fill), int(s.length/8))
}

// incoming is what comes, in stages: what was written in one is durable when it is said to be over.
var incoming = [][]step{
	{{false, 512, 512, "layer..1"}, {false, 1 << 20, 3 * 4096, "layer..2"}, {false, 2<<20 - 512, 1024, "layer..3"}},
	{{true, 0, 64 << 10, "copied.1"}, {true, 2<<20 - 4096, 8192, "copied.2"}},
	{{false, 1 << 20, 512, "layer..4"}, {false, 1024, 3072, "layer..5"}, {false, 3 << 20, 1024, ""}, {false, 1<<20 + 8192, 4096, ""}},
	{{false, 512, 1024, "layer..6"}, {false, 3<<20 + 4096, 4096, "layer..7"}},
}

// outgoing is what the guest writes while its disk goes, alike.
var outgoing = [][]step{
	{{true, 4096, 8192, "guest..1"}, {true, 3 << 20, 64 << 10, "guest..2"}, {true, 64 << 10, 4096, ""}},
}

// said is what is said after a stage.
func said(stage int) string { return fmt.Sprintf("stage %d\n", stage) }

// What else is said: when a disk has everything that came, or is at the other side; which mirror there is; and that the other side has something else.
const (
	saidOver    = "over\n"
	saidMirror  = "mirror "
	saidDiffers = "the other side differs\n"
)

// Migrate moves a disk "in" or "out", and returns the exit status.
func Migrate(way string, in io.Reader, out, errs io.Writer) int {
	var r route
	err := json.NewDecoder(in).Decode(&r)
	if err == nil {
		switch way {
		case "in":
			err = r.in(out)
		case "out":
			err = r.out(out)
		default:
			err = errors.New("in or out")
		}
	}
	if err != nil {
		fmt.Fprintln(errs, err)
		return 1
	}
	return 0
}

// in is a migration from SMAPIv1, as xapi makes it: what the guest writes is mirrored into the layer, while what there was is copied to main.
func (r *route) in(out io.Writer) error {
	var socket string
	if err := r.all(
		smapi.DatapathAttach{URI: r.Layer.URI, Domain: mirrorDomain}, smapi.DatapathActivate{URI: r.Layer.URI, Domain: mirrorDomain}); err != nil {
		return err
	}
	if err := r.Plugin.Call(smapi.DatapathImportActivate{URI: r.Layer.URI, Domain: mirrorDomain}, &socket); err != nil {
		return err
	}
	mirror, err := tapdisk.Connect(socket, nbd.Options{})
	if err != nil {
		return err
	}
	defer mirror.Close()
	var b smapi.Backend
	if err := r.Plugin.Call(smapi.DatapathAttach{URI: r.Main.URI, Domain: copyDomain}, &b); err != nil {
		return err
	}
	if err := r.all(smapi.DatapathActivate{URI: r.Main.URI, Domain: copyDomain}); err != nil {
		return err
	}
	copied, err := connect(b)
	if err != nil {
		return err
	}
	defer copied.Close()
	for i, stage := range incoming[:3] {
		if err := write(stage, copied, mirror); err != nil {
			return err
		}
		if _, err := io.WriteString(out, said(i)); err != nil {
			return err
		}
	}
	if err := copied.Close(); err != nil {
		return err
	}
	if err := r.all(
		smapi.DatapathDeactivate{URI: r.Main.URI, Domain: copyDomain}, smapi.DatapathDetach{URI: r.Main.URI, Domain: copyDomain},
		smapi.DatapathAttach{URI: r.Layer.URI, Domain: guestDomain}); err != nil {
		return err
	}
	if err := write(incoming[3], copied, mirror); err != nil {
		return err
	}
	if _, err := io.WriteString(out, said(3)); err != nil {
		return err
	}
	if err := mirror.Close(); err != nil {
		return err
	}
	if err := r.all(
		smapi.DatapathDeactivate{URI: r.Layer.URI, Domain: mirrorDomain}, smapi.DatapathDetach{URI: r.Layer.URI, Domain: mirrorDomain},
		smapi.VolumeCompose{SR: r.SR, Key: r.Layer.Key, Key2: r.Main.Key},
		smapi.DatapathActivate{URI: r.Layer.URI, Domain: guestDomain}); err != nil {
		return err
	}
	_, err = io.WriteString(out, saidOver)
	return err
}

// all makes calls, one after the other.
func (r *route) all(calls ...smapi.Request) error {
	for _, c := range calls {
		if err := r.Plugin.Call(c, nil); err != nil {
			return err
		}
	}
	return nil
}

// write writes a stage's steps, and makes them durable.
func write(stage []step, main, layer *nbd.Client) (err error) {
	to := layer
	for _, s := range stage {
		if to = layer; s.main {
			to = main
		}
		if s.fill == "" {
			err = to.Zero(s.offset, s.length, nbd.ZeroHow{})
		} else {
			_, err = to.WriteAt(s.data(), s.offset)
		}
		if err != nil {
			return err
		}
	}
	return to.Flush()
}

// connect connects to the NBD server that an attachment tells of.
func connect(b smapi.Backend) (*nbd.Client, error) {
	for _, i := range b.Implementations {
		if i.Nbd == nil {
			continue
		}
		address, name, _ := strings.Cut(strings.TrimPrefix(i.Nbd.URI, "nbd:unix:"), ":exportname=")
		return nbd.Dial(context.Background(), "unix", address, name, nbd.Options{})
	}
	return nil, errors.New("an attached disk has no NBD server: is srnbd beside the plugin?")
}

// out moves main to another host, which is this process, while the guest that has it writes.
func (r *route) out(out io.Writer) error {
	disk, err := os.OpenFile(r.Main.Data, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	there, socket, err := r.receive()
	if err != nil {
		return err
	}
	defer there.Close()
	var mirror smapi.Operation
	if err := r.Plugin.Call(smapi.DataMirror{URI: r.Main.URI, Domain: guestDomain, Remote: "nbd+unix:///disk?socket=" + socket}, &mirror); err != nil {
		return err
	}
	if _, err := io.WriteString(out, saidMirror+*mirror.MirrorV1+"\n"); err != nil {
		return err
	}
	for complete := false; !complete; {
		var status smapi.Status
		if err := r.Plugin.Call(smapi.DataStat{Operation: mirror}, &status); err != nil {
			return err
		}
		if complete = status.Complete; status.Failed {
			return errors.New("the mirror has failed")
		}
	}
	for i, stage := range outgoing {
		for _, s := range stage {
			if _, err := disk.WriteAt(s.data(), s.offset); err != nil {
				return err
			}
		}
		if err := disk.Sync(); err != nil {
			return err
		}
		if _, err := io.WriteString(out, said(i)); err != nil {
			return err
		}
	}
	if err := r.all(smapi.DatapathDeactivate{URI: r.Main.URI, Domain: guestDomain}); err != nil {
		return err
	}
	if err := alike(disk, there); err != nil {
		return errors.Join(err, first(io.WriteString(out, saidDiffers)))
	}
	if _, err := io.WriteString(out, saidOver); err != nil {
		return err
	}
	return r.all(smapi.DatapathDetach{URI: r.Main.URI, Domain: guestDomain}, smapi.DataDestroy{Operation: mirror})
}

func first(_ int, err error) error { return err }

// receive serves a new disk at a socket.
func (r *route) receive() (disk *os.File, socket string, err error) {
	dir, err := os.MkdirTemp(r.Peer, "peer-")
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	fd, err := unix.MemfdCreate("disk", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, "", err
	}
	disk = os.NewFile(uintptr(fd), "the disk at the other side")
	if err := disk.Truncate(diskSize); err != nil {
		return nil, "", err
	}
	b, err := nbd.NewFile(disk, false)
	if err != nil {
		return nil, "", err
	}
	socket = dir + "/nbd"
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, "", err
	}
	go (&nbd.Server{Backend: b}).Serve(context.Background(), l) //nolint:errcheck // it ends with this process
	return disk, socket, nil
}

// alike says whether two disks hold the same.
func alike(a, b *os.File) error {
	x, y := make([]byte, diskSize), make([]byte, diskSize)
	if _, err := a.ReadAt(x, 0); err != nil {
		return err
	}
	if _, err := b.ReadAt(y, 0); err != nil {
		return err
	}
	for at := 0; at < diskSize; at += 512 {
		if !bytes.Equal(x[at:at+512], y[at:at+512]) {
			return fmt.Errorf("the other side differs at byte %d: it has %.16q, and the disk %.16q", at, y[at:], x[at:])
		}
	}
	return nil
}
