package load

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/scripts/scratch"
)

// Usage is the flags of the command.
const Usage = "[-fs btrfs,xfs] [-load NAME,...] [-snapshots N] [-writes N] [-extents N] [-writers N] [-iops N] [-ext4 N] [-seed S] [-json FILE] [-volume DIR -datapath DIR]"

// run is one run of the command.
type run struct {
	only      []string // loads; empty: all
	snapshots int      // of a disk under direct writes
	writes    int      // that are acknowledged meanwhile, at least
	extents   int      // of a disk that is in many pieces, at least
	writers   int      // of such a disk; 0: as many as the load has
	iops      int      // of all of them; 0: as many as the load has
	ext4      int      // snapshots of a disk with an ext4
	log       *rig.Log
	seed      uint64 // of the writers' choices
	out       io.Writer
	json      *json.Encoder // or nil
}

// Run is the command. It is an error if a snapshot is wrong.
func Run(args []string, out io.Writer) error {
	r := &run{out: out}
	flags := flag.NewFlagSet("srcrash load "+Usage, flag.ContinueOnError)
	kinds := flags.String("fs", "btrfs,xfs", "filesystems to run on")
	only := flags.String("load", "", "loads to run, of "+strings.Join(names(r.loads()), ", ")+"; without it, all")
	flags.IntVar(&r.snapshots, "snapshots", 100, "snapshots under each load of direct writes, on each setup; a tenth as many under buffered ones, and two for each of a fifth as many calls that are disturbed")
	flags.IntVar(&r.writes, "writes", 50000, "writes of the load direct that are acknowledged meanwhile, at least")
	flags.IntVar(&r.extents, "extents", 4000, "extents that the disk has from the beginning under every other load, at least")
	flags.IntVar(&r.writers, "writers", 0, "writers to such a disk, 1 to 32; 0: as many as each load has")
	flags.IntVar(&r.iops, "iops", 0, "operations a second of all of them; 0: as many as each load has")
	flags.IntVar(&r.ext4, "ext4", 20, "snapshots of a disk with an ext4, on each setup")
	flags.Uint64Var(&r.seed, "seed", 0, "what the writers choose; 0: any")
	file := flags.String("json", "", "write one JSON object a line to this file: each snapshot, then the sums")
	plugin := rig.Plugin{}
	flags.StringVar(&plugin.Volume, "volume", "", "directory of the volume plugin; without it, this program serves")
	flags.StringVar(&plugin.Datapath, "datapath", "", "directory of the datapath plugin")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || r.snapshots < 1 || r.writes < r.snapshots || r.extents < 0 || r.writers < 0 || r.writers > 32 || r.iops < 0 || r.ext4 < 0 {
		return errors.New("usage: srcrash load " + Usage + "; at least one snapshot, and one write for each")
	}
	if err := r.choose(*only); err != nil {
		return err
	}
	plugin, err := rig.At(plugin.Volume, plugin.Datapath)
	if err != nil {
		return err
	}
	if r.seed == 0 {
		r.seed = rand.Uint64()
	}
	setups, err := r.setups(*kinds)
	if err != nil {
		return err
	}
	if *file != "" {
		f, err := os.Create(*file)
		if err != nil {
			return err
		}
		defer f.Close()
		r.json = json.NewEncoder(f)
	}
	if err := rig.PrivateHost(); err != nil {
		return err
	}
	if r.log, err = rig.PrivateLog(); err != nil {
		return err
	}
	defer r.log.Close()
	ctx, cancel := signal.NotifyContext(context.Background(), scratch.Endings()...)
	defer cancel()
	sums, err := r.all(ctx, setups, plugin)
	if ctx.Err() != nil {
		return errors.Join(errors.New("interrupted"), cleaning(err))
	}
	return errors.Join(r.table(sums), err, r.wrong(sums))
}

// setups are the filesystems, each with and without direct I/O.
func (r *run) setups(kinds string) (all []setup, err error) {
	for kind := range strings.SplitSeq(kinds, ",") {
		if kind != "btrfs" && kind != "xfs" {
			return nil, fmt.Errorf("-fs %s: btrfs or xfs", kind)
		}
		if err := scratch.Available(kind); err != nil {
			return nil, err
		}
		all = append(all, setup{kind, true}, setup{kind, false})
	}
	if r.wants("ext4") {
		err = needsExt4()
	}
	return all, err
}

// load is one way to use a disk while snapshots of it are taken.
type load func(context.Context, *bed) (summary, error)

type named struct {
	name string
	load
}

// loads are all of them.
func (r *run) loads() []named {
	all := []named{{"direct", r.underWrites}}
	for _, s := range shapes {
		all = append(all, named{s.name, r.under(s)})
	}
	return append(all, named{"buffered", r.underBuffered}, named{"ext4", r.underFiles})
}

func names(loads []named) (all []string) {
	for _, l := range loads {
		all = append(all, l.name)
	}
	return all
}

func (r *run) choose(only string) error {
	if only == "" {
		return nil
	}
	known := names(r.loads())
	r.only = strings.Split(only, ",")
	for _, name := range r.only {
		if !slices.Contains(known, name) {
			return fmt.Errorf("-load %s: there are %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}

func (r *run) wants(name string) bool {
	return (len(r.only) == 0 || slices.Contains(r.only, name)) && (name != "ext4" || r.ext4 > 0)
}

// errCleaning is for what could not be given back.
type errCleaning struct{ error }

func (e errCleaning) Unwrap() error { return e.error }

// cleaning is what of an error is about cleaning up.
func cleaning(err error) error {
	if e := (errCleaning{}); errors.As(err, &e) {
		return e
	}
	return nil
}

// all runs every load on every setup.
func (r *run) all(ctx context.Context, setups []setup, plugin rig.Plugin) (sums []summary, err error) {
	dir, err := os.MkdirTemp("", "srcrash-load-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := os.RemoveAll(dir); e != nil {
			err = errors.Join(err, errCleaning{fmt.Errorf("cleaning up: %w", e)})
		}
	}()
	if plugin.Volume == "" {
		if plugin, err = rig.Install(dir); err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(r.out, "seed %d\n", r.seed)
	for i, s := range setups {
		some, err := r.on(ctx, s, plugin, filepath.Join(dir, fmt.Sprint(i)))
		sums = append(sums, some...)
		if err != nil {
			return sums, fmt.Errorf("%s: %w", s, err)
		}
	}
	return sums, nil
}

// on runs every load on one setup.
func (r *run) on(ctx context.Context, s setup, plugin rig.Plugin, dir string) (sums []summary, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	b, err := makeBed(s, plugin, filesystemSize(fragmentedBlocks(r.extents)), dir)
	b.log = r.log
	defer func() {
		if e := b.close(); e != nil {
			err = errors.Join(err, errCleaning{fmt.Errorf("cleaning up: %w", e)})
		}
	}()
	if err != nil {
		return nil, err
	}
	for _, l := range r.loads() {
		if !r.wants(l.name) {
			continue
		}
		start := time.Now()
		sum, err := l.load(ctx, b)
		if err != nil {
			return append(sums, sum), fmt.Errorf("%s: %w", l.name, err)
		}
		if err := r.line(sum); err != nil {
			return sums, err
		}
		sums = append(sums, sum)
		fmt.Fprintf(r.out, "%s, %s: %d snapshots, %d writes in %.1f s\n", s, sum.Load, sum.Snapshots, sum.Writes, time.Since(start).Seconds())
	}
	return sums, nil
}

// line writes a line of -json.
func (r *run) line(v any) error {
	if r.json == nil {
		return nil
	}
	return r.json.Encode(v)
}

// wrong is what makes the command fail.
func (r *run) wrong(sums []summary) error {
	var err error
	for _, s := range sums {
		if n := s.wrong(); n > 0 {
			err = errors.Join(err, fmt.Errorf("%s, %s: %d violations (seed %d):\n  %s", s.setup, s.Load, n, r.seed, strings.Join(s.Why, "\n  ")))
		}
		if s.Load != "buffered" && s.Load != "ext4" && s.During == 0 {
			err = errors.Join(err, fmt.Errorf("%s, %s: no write was under way during any snapshot: nothing was tested", s.setup, s.Load))
		}
		if s.MustPreCopy && s.Snapshots > 0 && s.Ways[preCopy] == 0 {
			err = errors.Join(err, fmt.Errorf("%s, %s: no snapshot was taken by pre-copy, though the disk is in so many pieces: %v", s.setup, s.Load, s.Ways))
		}
	}
	return err
}
