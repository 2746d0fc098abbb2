package hammer

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/internal/smapi"
	"reflinksr/volume"
)

// Workload is how much is done.
type Workload struct {
	Workers int
	Calls   int           // by all workers together; 0: until For is over
	For     time.Duration // with Calls 0
	Kills   int           // percent of the calls
	Mix
}

// Mix is what is done, and how much workers get in each other's way.
type Mix struct {
	Name    string
	Volumes int // at most so many at once, but for those of killed calls
	Plugged int // sessions are mostly of one of the first so many; 0: of any
	Filled  int // so many volumes are there from the beginning
	Changed int // other calls are mostly for one of the first so many; 0: for any
	Shares  []Share
}

// Share is the weight of one kind of action.
type Share struct {
	Weight int
	Action string
}

// mixes are those of the hammer, one seed after the other: what is rare in the one
// is what the other is about.
var mixes = []Mix{
	{"everything", 7, 3, 2, 0, []Share{
		{28, "session"}, {10, "Volume.snapshot"}, {4, "Volume.clone"}, {2, "Volume.create"}, {9, "Volume.destroy"},
		{8, "Volume.revert"}, {8, "Volume.set_name"}, {4, "Volume.set_description"}, {6, "Volume.set"}, {2, "Volume.unset"},
		{6, "Volume.resize"}, {7, "Volume.stat"}, {5, "SR.ls"}, {1, "SR.attach"},
		{5, "Volume.enable_cbt"}, {1, "Volume.disable_cbt"}, {5, "Volume.data_destroy"},
	}},
	{"domains", 5, 1, 2, 1, []Share{
		{74, "session"}, {5, "Volume.snapshot"}, {3, "Volume.destroy"}, {14, "Volume.revert"}, {2, "SR.ls"}, {2, "SR.attach"},
	}},
	{"moments", 8, 1, 1, 1, []Share{
		{20, "session"}, {22, "Volume.snapshot"}, {4, "Volume.clone"}, {10, "Volume.destroy"}, {2, "Volume.revert"},
		{16, "Volume.set_name"}, {6, "Volume.set_description"}, {12, "Volume.resize"}, {4, "Volume.stat"}, {4, "SR.ls"},
	}},
	{"lives", 5, 2, 0, 2, []Share{
		{8, "session"}, {14, "Volume.snapshot"}, {10, "Volume.clone"}, {10, "Volume.create"}, {26, "Volume.destroy"},
		{6, "Volume.set"}, {6, "Volume.set_name"}, {4, "Volume.revert"}, {4, "Volume.stat"}, {10, "SR.ls"}, {2, "SR.attach"},
		{8, "Volume.enable_cbt"}, {10, "Volume.data_destroy"},
	}},
}

// storm is the mix of the storm.
var storm = Mix{Name: "storm", Shares: []Share{
	{85, "session"}, {6, "Volume.snapshot"}, {7, "Volume.destroy"}, {2, "SR.ls"},
}}

// sessionsEach is how many domains a worker has.
const sessionsEach = 2

// maxSize bounds the sizes of volumes, in MiB.
const maxSize = 24

// round is one SR under one workload.
type round struct {
	caller
	Workload
	seed          uint64
	path, uuid    string
	configuration map[string]string
	sr            string // its handle
	pool          pool
	over          atomic.Bool
	tags          atomic.Uint64
	grown         atomic.Int64
	copying       copies

	mutex      sync.Mutex
	violations []error
}

func (r *round) violation(format string, args ...any) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.violations = append(r.violations, fmt.Errorf(format, args...))
}

// known is a volume that workers may choose.
type known struct {
	key, uri  string
	readWrite bool
}

// pool is the volumes that workers choose from. Some that were destroyed stay a
// while: they must be refused.
type pool struct {
	mutex  sync.Mutex
	live   []known
	ghosts []known
	making int
}

// pick takes the nth of the first most, if most is not 0; 1 in 16 is a ghost.
func (p *pool) pick(n uint32, most int) (known, bool) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	from := p.live
	if most > 0 {
		from = from[:min(most, len(from))]
	}
	if n%16 == 0 && len(p.ghosts) > 0 {
		from = p.ghosts
	}
	if len(from) == 0 {
		return known{}, false
	}
	return from[int(n/16)%len(from)], true
}

// begin reserves a place for a new volume, if there is one.
func (p *pool) begin(most int) bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if len(p.live)+p.making >= most {
		return false
	}
	p.making++
	return true
}

// end fills the place with a volume, or leaves it.
func (p *pool) end(v *known) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.making--
	if v != nil {
		p.live = append(p.live, *v)
	}
}

// remove makes a volume a ghost.
func (p *pool) remove(key string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if i := slices.IndexFunc(p.live, func(v known) bool { return v.key == key }); i >= 0 {
		p.ghosts = append(p.ghosts, p.live[i])
		p.ghosts = p.ghosts[max(0, len(p.ghosts)-3):]
		p.live = slices.Delete(p.live, i, i+1)
	}
}

// worker makes one call after another.
type worker struct {
	*round
	id       int
	rng      *rand.Rand
	history  []*Event
	serial   int // of texts, so that no two are the same
	sessions [sessionsEach]session
	calls    int
}

func newWorker(r *round, id int) *worker {
	return &worker{round: r, id: id, rng: rand.New(rand.NewPCG(r.seed, uint64(id)))}
}

// session is a domain's use of a volume.
type session struct {
	known
	device string
	stage  stage
	guest  *guest // while it may write
}

type stage int

const (
	closed stage = iota
	attached
	writing
	reading
	unsure // a call was killed: it can only be detached
)

// choice is what a worker does next. The same seed chooses the same; which volumes
// there are to choose from is a matter of timing.
type choice struct {
	action     string
	volume     uint32
	other      uint32
	n          int     // below 100
	kill       float64 // after how much of the usual time; 0: never
	size, pair int
}

func (w *worker) choose() choice {
	total := 0
	for _, s := range w.Shares {
		total += s.Weight
	}
	at, c := w.rng.IntN(total), choice{}
	for _, s := range w.Shares {
		if at -= s.Weight; at < 0 {
			c.action = s.Action
			break
		}
	}
	c.volume, c.other = w.rng.Uint32(), w.rng.Uint32()
	c.n, c.size, c.pair = w.rng.IntN(100), 1+w.rng.IntN(maxSize), w.rng.IntN(2)
	dies, when := w.rng.IntN(100), w.rng.Float64()
	if dies < w.Kills {
		c.kill = 0.02 + 1.2*when
	}
	return c
}

// run is the worker's life.
func (w *worker) run() {
	for !w.over.Load() && (w.Calls == 0 || w.calls < w.Calls/w.Workers) {
		w.act(w.choose())
	}
	for i := range w.sessions {
		w.hangUp(i)
	}
}

// do makes a call and keeps it in the history, as e. It says whether it succeeded.
func (w *worker) do(e *Event, r smapi.Request, out any, kill float64) bool {
	w.calls++
	e.Worker, e.Method = w.id, r.Call()
	if err := w.call(e, r, out, kill); err != nil {
		w.violation("%v: %w", e, err)
		w.over.Store(true)
		return false
	}
	w.history = append(w.history, e)
	if !e.expected() {
		w.violation("%v: unexpected: %s", e, e.Why)
	}
	return e.Answer == OK
}

func (w *worker) text() string {
	w.serial++
	return fmt.Sprintf("%d.%d", w.id, w.serial)
}

// act does what was chosen.
func (w *worker) act(c choice) {
	switch c.action {
	case "session":
		w.session(c)
		return
	case "SR.ls":
		w.list(c.kill)
		return
	case "SR.attach":
		w.do(new(Event), smapi.SRAttach{Configuration: w.configuration}, nil, c.kill)
		return
	case "Volume.create":
		w.create(c)
		return
	}
	most := 0
	if c.n < 75 && c.action != "Volume.destroy" {
		most = w.Changed
	}
	v, ok := w.pool.pick(c.volume, most)
	if !ok {
		w.create(c)
		return
	}
	for range 6 {
		if c.action != "Volume.data_destroy" || !v.readWrite || c.n < 20 {
			break // it is mostly for a snapshot
		}
		c.volume = c.volume*1664525 + 1013904223
		if v, ok = w.pool.pick(c.volume, 0); !ok {
			return
		}
	}
	e := &Event{Method: c.action, Key: v.key}
	defer w.copying.of(c.action, v.key)()
	var request smapi.Request
	switch c.action {
	case "Volume.snapshot", "Volume.clone":
		w.derive(e, rig.OfVolume(c.action, w.sr, v.key), c)
		return
	case "Volume.stat":
		var answer smapi.Volume
		if w.do(e, smapi.VolumeStat{SR: w.sr, Key: v.key}, &answer, c.kill) {
			w.see(e, answer)
		}
		return
	case "Volume.destroy":
		if w.do(e, smapi.VolumeDestroy{SR: w.sr, Key: v.key}, nil, c.kill) || e.Answer == Killed {
			w.pool.remove(v.key)
		}
		return
	case "Volume.revert":
		from, _ := w.pool.pick(c.other, 0)
		seldom := 8
		if w.Name == "domains" {
			seldom = 60 // it has few snapshots
		}
		for range 6 { // a snapshot; seldom another volume, because those are judged together
			if !from.readWrite || c.n < seldom {
				break
			}
			c.other = c.other*1664525 + 1013904223
			from, _ = w.pool.pick(c.other, 0)
		}
		if from.key == "" || from.key == v.key || from.readWrite && c.n >= seldom {
			return
		}
		e.From = from.key
		request = smapi.VolumeRevert{SR: w.sr, Snapshot: from.key, Key: v.key}
	case "Volume.set_name":
		e.Text = w.text()
		request = smapi.VolumeSetName{SR: w.sr, Key: v.key, NewName: e.Text}
	case "Volume.set_description":
		e.Text = w.text()
		request = smapi.VolumeSetDescription{SR: w.sr, Key: v.key, NewDescription: e.Text}
	case "Volume.set":
		e.Pair, e.Text = c.pair, w.text()
		request = smapi.VolumeSet{SR: w.sr, Key: v.key, K: pairs[e.Pair], V: e.Text}
	case "Volume.unset":
		e.Pair = c.pair
		request = smapi.VolumeUnset{SR: w.sr, Key: v.key, K: pairs[e.Pair]}
	case "Volume.resize":
		if e.Size = int64((c.size+1)/2) * volume.NewSizeUnit; c.n%4 > 0 {
			// Longer than ever before.
			e.Size = maxSize<<20 + w.grown.Add(1)*volume.NewSizeUnit
		}
		request = smapi.VolumeResize{SR: w.sr, Key: v.key, NewSize: e.Size}
	default:
		request = rig.OfVolume(c.action, w.sr, v.key)
	}
	w.do(e, request, nil, c.kill)
}

// see keeps what an answer tells of a volume.
func (w *worker) see(e *Event, answer smapi.Volume) {
	s, err := seen(answer)
	if err != nil {
		w.violation("%v: %w", e, err)
	}
	e.Seen = &s
}

func (w *worker) list(kill float64) map[string]Seen {
	e := new(Event)
	var answer []smapi.Volume
	if !w.do(e, smapi.SRLs{SR: w.sr}, &answer, kill) {
		return nil
	}
	e.List = map[string]Seen{}
	for _, v := range answer {
		s, err := seen(v)
		if err != nil {
			w.violation("%v: %w", e, err)
		}
		if _, twice := e.List[v.Key]; twice {
			w.violation("%v: volume %s is in it twice", e, v.Key)
		}
		e.List[v.Key] = s
	}
	return e.List
}

func (w *worker) create(c choice) {
	if !w.pool.begin(w.Volumes) {
		c.action = "Volume.destroy"
		w.act(c)
		return
	}
	e := &Event{Text: w.text()}
	w.make(e, smapi.VolumeCreate{SR: w.sr, Name: e.Text, Size: int64(1+c.size/4) << 20, Sharable: c.n < 25}, c.kill)
}

func (w *worker) derive(e *Event, r smapi.Request, c choice) {
	if !w.pool.begin(w.Volumes) {
		c.action = "Volume.destroy"
		w.act(c)
		return
	}
	w.make(e, r, c.kill)
}

// make makes a volume, and looks at its data before anybody else knows its key.
func (w *worker) make(e *Event, r smapi.Request, kill float64) {
	var made *known
	defer func() { w.pool.end(made) }()
	var answer smapi.Volume
	if !w.do(e, r, &answer, kill) {
		return
	}
	e.New = answer.Key
	w.see(e, answer)
	if rw := e.Method != "Volume.snapshot"; e.Seen.ReadWrite != rw || e.Seen.Keys != [2]string{} {
		w.violation("%v: a new volume must have no keys, and be writable unless it is a snapshot", e)
	}
	tag, err := dataTag(filepath.Join(w.path, e.New))
	if err != nil {
		w.violation("%v: looking at the new volume: %w", e, err)
	}
	if e.Seen.Tag = &tag; e.Method == "Volume.create" && tag != 0 {
		w.violation("%v: a new volume is not empty: %x", e, tag)
	}
	made = &known{key: e.New, uri: answer.URI[0], readWrite: e.Seen.ReadWrite}
}

// session carries on with one of the worker's sessions, or begins one.
func (w *worker) session(c choice) {
	i := 0
	if c.other%4 == 0 && w.Name != "domains" || w.sessions[1].stage != closed && c.other%4 == 1 {
		i = 1
	}
	switch s := &w.sessions[i]; s.stage {
	case closed:
		w.plug(i, c)
	case attached:
		switch {
		case c.n < 75 && w.Name == "domains": // they come and go, so that the last one does
			w.detach(i, c.kill)
		case c.n < 85 && w.Name == "domains":
			w.activate(i, "Datapath.activate", writing, c.kill)
		case c.n < 45:
			w.activate(i, "Datapath.activate", writing, c.kill)
		case c.n < 60:
			w.activate(i, "Datapath.activate_readonly", reading, c.kill)
		case c.n < 64:
			w.datapath(i, "Datapath.attach", nil, c.kill) // again
		default:
			w.detach(i, c.kill)
		}
	case writing:
		switch {
		case c.n < 50:
			w.write(i)
			w.session(choice{other: c.other, volume: c.volume, n: 50 + c.n, kill: c.kill})
		case c.n < 70:
			w.read(i)
			w.deactivate(i, c.kill)
		case c.n < 75:
			w.detach(i, c.kill) // without deactivating first
		default:
			w.deactivate(i, c.kill)
		}
	case reading:
		if c.n < 50 {
			w.read(i)
		}
		w.deactivate(i, c.kill)
	case unsure:
		w.detach(i, c.kill)
	}
}

func (w *worker) domain(i int) int { return w.id*sessionsEach + i }

// datapath makes a call for a session.
func (w *worker) datapath(i int, method string, out any, kill float64) bool {
	s := &w.sessions[i]
	if method == "Datapath.deactivate" || method == "Datapath.detach" {
		w.history = append(w.history, s.guest.halt()...)
		s.guest = nil
	}
	e := &Event{Key: s.key, Domain: w.domain(i)}
	ok := w.do(e, rig.OfDatapath(method, s.uri, fmt.Sprint("dom", e.Domain)), out, kill)
	if e.Answer == Killed && method != "Datapath.open" && method != "Datapath.close" {
		s.stage = unsure
	}
	return ok
}

// plug begins a session, or tries to use a volume without.
func (w *worker) plug(i int, c choice) {
	// Mostly one of a few: there domains meet, and the others can be destroyed.
	most := 0
	if c.n < 75 {
		most = w.Plugged
	}
	v, ok := w.pool.pick(c.volume, most)
	if !ok {
		w.create(c)
		return
	}
	s := &w.sessions[i]
	s.known = v
	if c.n < 4 {
		w.datapath(i, "Datapath.activate", nil, 0)
		return
	}
	if idle := []string{"Datapath.close", "Datapath.open", "Datapath.detach"}; w.Name == "domains" && c.n%5 < len(idle) {
		w.datapath(i, idle[c.n%5], nil, c.kill) // of what this domain does not have
		return
	}
	if c.n < 30 {
		w.datapath(i, "Datapath.open", nil, 0)
	}
	var answer smapi.Backend
	if !w.datapath(i, "Datapath.attach", &answer, c.kill) {
		return
	}
	s.stage, s.device = attached, answer.Path()
	if s.device == "" {
		w.violation("Datapath.attach of %s answered no block device: %v", s.key, answer)
	}
}

func (w *worker) activate(i int, method string, then stage, kill float64) {
	s := &w.sessions[i]
	if w.datapath(i, method, nil, kill) {
		if s.stage = then; !s.readWrite {
			s.stage = reading
		}
		if s.stage == writing {
			s.guest = w.boot(i)
		}
	}
}

func (w *worker) deactivate(i int, kill float64) {
	if w.datapath(i, "Datapath.deactivate", nil, kill) {
		w.sessions[i].stage = attached
	}
}

func (w *worker) detach(i int, kill float64) {
	if w.datapath(i, "Datapath.detach", nil, kill) {
		w.sessions[i].stage = closed
		if w.calls%3 > 0 { // the toolstack does it always
			w.datapath(i, "Datapath.close", nil, 0)
		}
	}
}

// hangUp ends a session.
func (w *worker) hangUp(i int) {
	if w.sessions[i].stage != closed {
		w.detach(i, 0)
	}
}

// write writes a block as the domain, read reads it.
func (w *worker) write(i int) {
	w.history = append(w.history, w.writeBlock(w.sessions[i], w.domain(i)))
}

func (r *round) writeBlock(s session, domain int) *Event {
	e := &Event{Worker: domain / sessionsEach, Method: writeBlock, Key: s.key, Domain: domain, Tag: r.tags.Add(1), Answer: OK}
	e.Call = r.now()
	err := writeTag(s.device, e.Tag)
	e.Return = r.now()
	r.check(e, err)
	return e
}

func (w *worker) read(i int) {
	s := &w.sessions[i]
	e := &Event{Worker: w.id, Method: readBlock, Key: s.key, Domain: w.domain(i), Answer: OK}
	e.Call = w.now()
	var err error
	e.Tag, err = readTag(s.device)
	e.Return = w.now()
	w.history = append(w.history, e)
	w.check(e, err)
}

func (r *round) check(e *Event, err error) {
	if err != nil {
		r.violation("%v: a domain that has the volume active could not: %w", e, err)
	}
}

// hammer runs all workers, and returns what they did in the order in which it began.
func (r *round) hammer() []*Event {
	workers := make([]*worker, r.Workers)
	var wait sync.WaitGroup
	if r.Calls == 0 {
		timer := time.AfterFunc(r.For, func() { r.over.Store(true) })
		defer timer.Stop()
	}
	first := newWorker(r, r.Workers)
	for range r.Filled {
		first.create(choice{size: 1})
	}
	for i := range workers {
		workers[i] = newWorker(r, i)
		wait.Go(workers[i].run)
	}
	over := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() { r.watch(over) })
	wait.Wait()
	close(over)
	watcher.Wait()
	all := first.history
	for _, w := range workers {
		all = append(all, w.history...)
	}
	slices.SortStableFunc(all, func(a, b *Event) int { return int(min(1, max(-1, a.Call-b.Call))) })
	return all
}
