package scripts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"reflinksr/internal/nbd"
	"reflinksr/internal/smapi"
	"reflinksr/scripts/domain"
	"reflinksr/scripts/owned"
	"reflinksr/scripts/sandbox"
	"reflinksr/scripts/scratch"
)

type stateKey struct{}

// script is the state of one running scenario.
type script struct {
	config Config
	ts     *testscript.TestScript
	work   string

	filesystems []*scratch.FS
	devices     map[string]*madeDevice
	uuids       []string          // of the SRs that were made
	t           *watched          // nil outside Run
	shell       io.Writer         // of a Shell or of Serve
	output      io.Writer         // of Serve
	set         map[string]string // variables that Serve is to tell of
	calls       []Call            // all that were made
	naming      bool              // calls that are made now are those that the scenario names
	named       int               // how many calls there were when the last such one was made
	last        any               // the last answer, decoded
	refusal     *smapi.Failure    // the last call's, if it was refused
	claimed     []claim           // calls that succeeded, and that contents must prove
	proved      map[string]bool   // calls that they have
	sums        map[string]contents
	remembered  map[string]*pieces // what disks held at their last sum
	plugs       map[string][]plugged
	keys        map[string]bool // of the volumes that calls answered
	writing     map[string]*writer
	marks       map[string]uint64 // what writers had acknowledged
	domains     map[string]*domain.Domain
	disks       map[uint64]bool // the device numbers of its filesystems
	backend     smapi.Backend   // what the last Datapath.attach of plug answered
	sandbox     sandbox.Sandbox // what calls find
	held        []*os.File      // locked by the lock verb
	peers       map[string]*nbd.Client
	cloud       *cloud
	smhost      *smhost
}

// setenv sets a variable of the scenario.
func (s *script) setenv(name, value string) {
	s.ts.Setenv(name, value)
	if s.set != nil {
		s.set[name] = value
	}
}

// tell says what happened: in the log, or at once in a shell.
func (s *script) tell(format string, args ...any) {
	if s.shell != nil {
		fmt.Fprintf(s.shell, strings.TrimSuffix(format, "\n")+"\n", args...)
		return
	}
	s.ts.Logf(format, args...)
}

// cleanUp leaves nothing behind, whatever the scenario did.
func (s *script) cleanUp() {
	for _, w := range s.writing {
		w.halt()
	}
	if s.cloud != nil {
		s.cloud.daemon.Stop()
	}
	if s.smhost != nil {
		s.smhost.stop()
	}
	for _, p := range s.peers {
		p.Close()
	}
	s.endDomains()
	s.lock(false, []string{"free"})
	// Devices that the scenario left attached: of its volumes, and of any other file.
	s.release()
	for _, uuid := range s.uuids {
		os.Remove("/run/reflinksr/sr/" + uuid + ".json")
		states, _ := filepath.Glob("/run/reflinksr/volume/" + uuid + ".*")
		for _, state := range states {
			os.Remove(state)
		}
		for _, link := range fileLinks(uuid) {
			os.Remove(link)
		}
	}
	s.awaitServers()
	s.unmountSRs()
	owned.Detach(s.loopsWhere(s.isImage)) // of blockdevice
	for _, fs := range s.filesystems {
		fs.Remove()
	}
	scratch.UnmountBelow(s.work)
}

// everyKey lists the keys of volumes in the scenario's SRs, but for short ones: those
// may be part of the name of anybody's file.
func (s *script) everyKey() map[string]bool {
	keys := map[string]bool{}
	for key := range s.keys {
		if len(key) >= 32 {
			keys[key] = true
		}
	}
	for _, uuid := range s.uuids {
		states, _ := filepath.Glob("/run/reflinksr/volume/" + uuid + ".*")
		for _, state := range states {
			if base := filepath.Base(state); len(base) > 73 {
				keys[base[37:73]] = true
			}
		}
	}
	return keys
}

// fs makes a filesystem.
func (s *script) fs(_ bool, args []string) error {
	kind, size, name := s.config.FS, int64(1<<30), "mnt"
	var err error
	if len(args) > 0 {
		kind = args[0]
	}
	if len(args) > 1 {
		if size, err = ParseBytes(args[1]); err != nil {
			return err
		}
	}
	if len(args) > 2 {
		name = args[2]
	}
	if len(args) > 3 {
		return usage("fs")
	}
	fs, err := scratch.Make(kind, size, filepath.Join(s.work, name))
	if err != nil {
		return err
	}
	s.filesystems = append(s.filesystems, fs)
	s.know(fs.Dir)
	s.setenv(strings.ToUpper(name), fs.Dir)
	return nil
}

// mounted is the filesystem at $MNT.
func (s *script) mounted() (*scratch.FS, error) {
	for _, fs := range s.filesystems {
		if fs.Dir == s.ts.Getenv("MNT") {
			return fs, nil
		}
	}
	return nil, errors.New("there is no filesystem yet: say fs first")
}

// conf prepares the making of an SR.
func (s *script) conf(_ bool, args []string) error {
	name := "SR"
	if len(args) > 0 {
		name = args[0]
	}
	if len(args) > 1 || !variable.MatchString("$"+name) || name != strings.ToUpper(name) {
		return usage("conf")
	}
	_, err := s.prepare(name)
	return err
}

// prepare makes a directory for an SR and sets NAME_PATH, NAME_UUID and NAME_CONF.
func (s *script) prepare(name string) (conf map[string]string, err error) {
	if s.ts.Getenv("MNT") == "" {
		if err := s.fs(false, nil); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(s.ts.Getenv("MNT"), strings.ToLower(name))
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	id := newUUID()
	s.uuids = append(s.uuids, id)
	template := s.config.SR
	if template == nil {
		template = map[string]string{"path": "$SR_PATH"}
	}
	values := map[string]string{"SR_PATH": path, "MNT": s.ts.Getenv("MNT"), "SR_UUID": id}
	conf = map[string]string{}
	for key, value := range template {
		conf[key] = os.Expand(value, func(v string) string { return values[v] })
	}
	encoded, err := json.Marshal(conf)
	s.setenv(name+"_PATH", path)
	s.setenv(name+"_UUID", id)
	s.setenv(name+"_CONF", string(encoded))
	return conf, err
}

// sr makes and attaches an SR.
func (s *script) sr(_ bool, args []string) error {
	name := "SR"
	if len(args) > 0 && !strings.Contains(args[0], "=") {
		name, args = args[0], args[1:]
	}
	conf, err := s.prepare(name)
	if err != nil {
		return err
	}
	for _, arg := range args {
		k, v, ok := strings.Cut(arg, "=")
		if !ok {
			return usage("sr")
		}
		conf[k] = v
	}
	made, err := ask(s, smapi.SRCreate{UUID: s.ts.Getenv(name + "_UUID"), Configuration: conf, Name: "scenario", Description: "made by the sr verb"})
	if err != nil {
		return err
	}
	handle, err := ask(s, smapi.SRAttach{Configuration: made})
	if err != nil {
		return err
	}
	encoded, err := json.Marshal(made)
	s.setenv(name, handle)
	s.setenv(name+"_CONF", string(encoded))
	return err
}

// lock holds a volume's lock.
func (s *script) lock(_ bool, args []string) error {
	if len(args) != 1 {
		return usage("lock")
	}
	if args[0] == "free" {
		for _, f := range s.held {
			f.Close()
		}
		s.held = nil
		return nil
	}
	f, err := os.OpenFile(filepath.Join(s.ts.Getenv("SR_PATH"), ".reflinksr/locks", args[0]), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	s.held = append(s.held, f)
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

// retry repeats a verb.
func (s *script) retry(_ bool, args []string) error {
	if len(args) < 2 {
		return usage("retry")
	}
	timeout, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	args = args[1:]
	not := args[0] == "!"
	if not {
		args = args[1:]
	}
	for _, v := range table {
		if len(args) == 0 || v.name != args[0] {
			continue
		}
		deadline := time.Now().Add(timeout)
		for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
			err := v.run(s, not, args[1:])
			if err == nil || time.Now().After(deadline) {
				return err
			}
			time.Sleep(pause)
		}
	}
	return fmt.Errorf("no verb %q to retry", args)
}

// ParseBytes reads 4096, 64KiB, 16MiB, 1GiB, 2TiB.
func ParseBytes(text string) (int64, error) {
	number, shift := text, 0
	for suffix, n := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40} {
		if cut, ok := strings.CutSuffix(text, suffix); ok {
			number, shift = cut, n
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no size", text)
	}
	return n << shift, nil
}
