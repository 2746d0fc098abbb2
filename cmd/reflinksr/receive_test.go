package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/nbd"
	"reflinksr/internal/smapi"
	"reflinksr/internal/smapi/invoke"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

// What comes out of a migration from SMAPIv1 is right to the sector, whatever is written, in whatever pieces, and however often the server is
// killed on the way: what a client wrote, and what was there before where it wrote nothing.
//
// Writes to a connection that breaks may have been done or not; so each piece that was under way is written again, as tapdisk never
// would: it gives up. Then the two must agree.
func TestMirroredDisks(t *testing.T) {
	tests.Root(t, "mounting filesystems")
	root := install(t)
	for _, kind := range []string{"btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			fs, err := scratch.Make(kind, 1<<30, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { fs.Remove() })
			r := receiver{TB: t, Plugin: calls(root, "mirrored"), rand: rand.New(rand.NewPCG(uint64(len(kind)), 7))}
			r.makeSR(fs.Dir)
			defer func() { r.call(smapi.SRDetach{SR: r.sr}, nil) }()
			rounds := tests.Share(3, 40)
			if _, parts := tests.Part(8); parts > 1 {
				rounds = 5
			}
			for round := range rounds {
				r.migrate(round, tests.Share(300, 2500))
			}
		})
	}
}

// receiver is the toolstack of the host that a disk is migrated to.
type receiver struct {
	testing.TB
	invoke.Plugin
	rand *rand.Rand
	sr   string
}

func (r *receiver) call(request smapi.Request, answer any) {
	r.Helper()
	if answer == nil {
		answer = new(any)
	}
	if err := r.Do(context.Background(), request, answer); err != nil {
		r.Fatal(err)
	}
}

func (r *receiver) makeSR(dir string) {
	path := filepath.Join(dir, "sr")
	if err := os.Mkdir(path, 0o700); err != nil {
		r.Fatal(err)
	}
	var configuration map[string]string
	r.call(smapi.SRCreate{UUID: newUUID(r.TB), Configuration: map[string]string{"path": path}, Name: "sr"}, &configuration)
	r.call(smapi.SRAttach{Configuration: configuration}, &r.sr)
}

func newUUID(t testing.TB) string {
	text, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

const mirroredSize = 2 << 20 // bytes, which is what the smallest disk has

func (r *receiver) volume() (v smapi.Volume) {
	r.call(smapi.VolumeCreate{SR: r.sr, Name: "disk", Size: mirroredSize}, &v)
	return v
}

// migrate receives one disk.
func (r *receiver) migrate(round, writes int) {
	leaf, parent := r.volume(), r.volume()
	const domain = "MIR0a1b2c"
	r.call(smapi.DatapathAttach{URI: leaf.URI[0], Domain: domain}, nil)
	r.call(smapi.DatapathActivate{URI: leaf.URI[0], Domain: domain}, nil)

	// What there was before, with holes.
	model := make([]byte, mirroredSize)
	var b smapi.Backend
	r.call(smapi.DatapathAttach{URI: parent.URI[0], Domain: "CP00ff00"}, &b)
	r.call(smapi.DatapathActivate{URI: parent.URI[0], Domain: "CP00ff00"}, nil)
	address := b.Implementations[len(b.Implementations)-1].Nbd.URI
	socket, _, _ := strings.Cut(strings.TrimPrefix(address, "nbd:unix:"), ":")
	copied, err := nbd.Dial(context.Background(), "unix", socket, parent.Key, nbd.Options{})
	if err != nil {
		r.Fatal(err)
	}
	for at := 0; at < mirroredSize; at += 64 << 10 {
		if r.rand.IntN(3) > 0 {
			p := bytes.Repeat([]byte{'P'}, 64<<10)
			copy(model[at:], p)
			if _, err := copied.WriteAt(p, int64(at)); err != nil {
				r.Fatal(err)
			}
		}
	}
	copied.Close()
	r.call(smapi.DatapathDetach{URI: parent.URI[0], Domain: "CP00ff00"}, nil)

	m := &mirrorClient{receiver: r, uri: leaf.URI[0], domain: domain}
	m.connect()
	kill := r.rand.IntN(2*writes) + 1
	for i := range writes {
		at, length := r.rand.IntN(mirroredSize/512), 1+r.rand.IntN(12)
		if r.rand.IntN(8) == 0 {
			at, length = at&^7, 8*(1+r.rand.IntN(16))
		}
		length = min(length, mirroredSize/512-at)
		p := bytes.Repeat([]byte(fmt.Sprintf("%03d%05d", round%1000, i)), length*64)
		if r.rand.IntN(10) == 0 {
			clear(p)
		}
		copy(model[at*512:], p)
		m.write(p, int64(at)*512)
		if i == kill {
			m.kill()
		}
	}
	guest := r.rand.IntN(2) == 0 // has it attached already
	if guest {
		r.call(smapi.DatapathAttach{URI: leaf.URI[0], Domain: "12"}, &b)
	}
	m.Close()
	r.call(smapi.DatapathDeactivate{URI: leaf.URI[0], Domain: domain}, nil)
	r.call(smapi.DatapathDetach{URI: leaf.URI[0], Domain: domain}, nil)
	r.call(smapi.VolumeCompose{SR: r.sr, Key: leaf.Key, Key2: parent.Key}, nil)
	if !guest {
		r.call(smapi.DatapathAttach{URI: leaf.URI[0], Domain: "12"}, &b)
	}
	r.call(smapi.DatapathActivate{URI: leaf.URI[0], Domain: "12"}, nil)
	got, err := os.ReadFile(b.Path())
	if err != nil {
		r.Fatal(err)
	}
	r.call(smapi.DatapathDetach{URI: leaf.URI[0], Domain: "12"}, nil)
	for s := 0; s < mirroredSize; s += 512 {
		if !bytes.Equal(got[s:s+512], model[s:s+512]) {
			r.Fatalf("round %d: sector %d of %d is %q…, want %q…", round, s/512, len(got)/512, got[s:s+16], model[s:s+16])
		}
	}
	r.call(smapi.VolumeDestroy{SR: r.sr, Key: leaf.Key}, nil)
}

// mirrorClient writes to a disk that is received, and connects again when its server was killed.
type mirrorClient struct {
	*receiver
	*nbd.Client
	uri, domain, socket string
}

func (m *mirrorClient) connect() {
	m.call(smapi.DatapathImportActivate{URI: m.uri, Domain: m.domain}, &m.socket)
	to, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: m.socket, Net: "unix"})
	if err != nil {
		m.Fatal(err)
	}
	defer to.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		m.Fatal(err)
	}
	_, _, err = to.WriteMsgUnix([]byte("dp"), unix.UnixRights(pair[0]), nil)
	unix.Close(pair[0])
	ours := os.NewFile(uintptr(pair[1]), "tapdisk's end")
	defer ours.Close()
	if err != nil {
		m.Fatal(err)
	}
	conn, err := net.FileConn(ours)
	if err != nil {
		m.Fatal(err)
	}
	if m.Client, err = nbd.Connect(context.Background(), conn, "tapdisk_client\x00", nbd.Options{Plain: true}); err != nil {
		m.Fatal(err)
	}
}

func (m *mirrorClient) write(p []byte, at int64) {
	if _, err := m.WriteAt(p, at); err != nil {
		m.Client.Close()
		m.connect()
		if _, err := m.WriteAt(p, at); err != nil {
			m.Fatal(err)
		}
	}
}

// kill ends the server without a word, and returns when it is gone.
func (m *mirrorClient) kill() {
	text, err := os.ReadFile(strings.TrimSuffix(m.socket, ".in") + ".lock")
	if err != nil {
		m.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		m.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		m.Fatal(err)
	}
	m.Wait()
	for deadline := time.Now().Add(time.Minute); syscall.Kill(pid, 0) == nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	}
}
