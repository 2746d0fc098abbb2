package scripts

import (
	"flag"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

// often is how often it is told how far the scenarios of a Go test are.
const often = 10 * time.Second

// TestOnBoth is Test of the scenarios that a configuration picks, on btrfs and on XFS, in parts by turns (tests.Turn).
func TestOnBoth(t *testing.T, c Config) {
	tests.Root(t, "mounting filesystems and attaching loop devices for scenarios")
	for turn, fs := range []string{"btrfs", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			if err := scratch.Available(fs); err != nil {
				tests.Skip(t, err)
			}
			c := c
			c.FS = fs
			files, err := c.Select(t.TempDir(), regexp.MustCompile(""))
			if err != nil {
				t.Fatal(err)
			}
			Test(t, c, tests.Turn(files, turn))
		})
	}
}

// Test runs the scenarios in files as subtests of a Go test: Run, for package testing. It tells
// how far they are, and which were skipped. If the time is up that go test gives a package,
// they end and clean up, and the test fails with the names of those that were running.
func Test(t *testing.T, c Config, files []string) {
	if len(files) == 0 {
		return // testscript takes that for a mistake
	}
	total := fmt.Sprint(len(files))
	if flag.Lookup("test.run").Value.String() != "" {
		total = "at most " + total
	}
	p := &tested{t: t, total: total, running: map[string]time.Time{}, skipped: map[string][]string{}}
	c.began = p.begin
	told := c.Done
	c.Done = func(r Result) {
		p.done(r)
		if told != nil {
			told(r)
		}
	}
	c.Context = tests.Context(t)
	over := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-c.Context.Done():
				p.late(c.stopped())
				return
			case <-time.After(often):
				tests.Tell("%s", p)
			}
		}
	})
	// Before the context's own: that it is cancelled is no end of the time.
	t.Cleanup(func() { close(over); telling.Wait(); p.end() })
	Run(subtest{t}, c, files)
}

// tested sees how far the scenarios of a Go test are.
type tested struct {
	t     *testing.T
	lock  sync.Mutex
	total string
	ended int
	// When each began that is running, by its name.
	running map[string]time.Time
	skipped map[string][]string // names by reason
	why     error               // they had to end
}

func (p *tested) begin(name string) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.running[name] = time.Now()
}

func (p *tested) done(r Result) {
	p.lock.Lock()
	defer p.lock.Unlock()
	delete(p.running, r.FS+"/"+r.Name)
	if p.why != nil {
		return
	}
	p.ended++
	if r.Verdict == Skipped {
		p.skipped[r.Why] = append(p.skipped[r.Why], r.FS+"/"+r.Name)
	}
}

// String says how far they are: how many have ended, and what is running.
func (p *tested) String() string {
	p.lock.Lock()
	defer p.lock.Unlock()
	return fmt.Sprintf("%s: %d of %s scenarios; running: %s", p.t.Name(), p.ended, p.total, p.names())
}

// names are those of what is running, the oldest first.
func (p *tested) names() string {
	names := slices.SortedFunc(maps.Keys(p.running), func(a, b string) int { return p.running[a].Compare(p.running[b]) })
	for i, name := range names {
		names[i] = fmt.Sprintf("%s since %v", name, time.Since(p.running[name]).Round(100*time.Millisecond))
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// late fails the test because the time is up.
func (p *tested) late(why error) {
	state := p.String()
	p.lock.Lock()
	p.why = why
	p.lock.Unlock()
	tests.Tell("%v; %s", why, state)
	p.t.Errorf("%v; %s", why, state)
}

// end tells what was skipped, once they all have ended.
func (p *tested) end() {
	if testing.Verbose() {
		return // it has been said
	}
	for _, why := range slices.Sorted(maps.Keys(p.skipped)) {
		tests.Tell("%s: %d scenarios skipped, %s: %s", p.t.Name(), len(p.skipped[why]), why, strings.Join(p.skipped[why], " "))
	}
}

// subtest is a testing.T as testscript wants it.
type subtest struct{ *testing.T }

func (t subtest) Run(name string, do func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { do(subtest{t}) })
}

func (t subtest) Verbose() bool { return testing.Verbose() }
