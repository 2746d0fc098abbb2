// Package scripts is the scenarios: txtar scripts that read like the minutes of a
// session with a SMAPIv3 plugin, and the verbs that they are written in.
//
// A scenario runs against any plugin directory. Those named own_… look inside an
// SR of this project and are only for its own plugin. README.md tells which folder
// has which scenarios, and lists the verbs; it is generated from their tables.
package scripts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"reflinksr/internal/smapi"
	"reflinksr/internal/smapi/invoke"
	"reflinksr/scripts/domain"
	"reflinksr/scripts/plugindir"
	"reflinksr/scripts/scratch"
)

// Config says what scenarios run against, and how.
type Config struct {
	Volume     string            // the volume plugin's directory
	Datapath   []string          // datapath plugins' directories, or directories that hold such
	SR         map[string]string // the configuration of an SR; see ReadConfiguration. By default {"path": "$SR_PATH"}
	OpenNebula string            // a directory with datastore/NAME and tm/NAME: drivers of OpenNebula are called, and no plugin
	Hosts      []string          // two hosts that see this one's filesystems at their places, and that a user oneadmin reaches by ssh; may be nil
	SMAPIv1    string            // a directory with ReflinkSR, FileSR …: drivers of SMAPIv1 are called, and no plugin
	FS         string            // the kind of filesystem that the fs verb makes by default
	Own        bool              // the plugin is this project's
	Guest      domain.Image      // what the domain verb boots on a Xen host
	Race       bool              // the plugin is built with the race detector, which takes memory and time
	Timeout    time.Duration     // of one call; by default 60 s
	Limit      time.Duration     // of one scenario; by default 10 min
	Context    context.Context   // once it is done, running scenarios fail and clean up; may be nil
	Done       func(Result)      // is told of each scenario, from several goroutines; may be nil
	began      func(name string) // is told when one begins; may be nil
}

func (c Config) timeout() time.Duration {
	if c.Timeout == 0 {
		return 60 * time.Second
	}
	return c.Timeout
}

func (c Config) context() context.Context {
	if c.Context == nil {
		return context.Background()
	}
	return c.Context
}

// stopped says why a scenario must end now; nil if it need not.
func (c Config) stopped() error {
	if c.context().Err() == nil {
		return nil
	}
	if cause := context.Cause(c.context()); cause != context.Canceled {
		return cause
	}
	return errInterrupted
}

// limited is the same with a context that ends when the time of one scenario is up.
func (c Config) limited() (Config, context.CancelFunc) {
	limit := c.Limit
	if limit == 0 {
		limit = 10 * time.Minute
	}
	cause := fmt.Errorf("the scenario was stopped: it had been running for %v", limit)
	var cancel context.CancelFunc
	c.Context, cancel = context.WithTimeoutCause(c.context(), limit, cause)
	return c, cancel
}

// Check says in one sentence why there is no plugin to run scenarios against.
func (c Config) Check() error {
	if c.OpenNebula != "" {
		for _, kind := range []string{"datastore", "tm"} {
			if _, err := os.Stat(filepath.Join(c.OpenNebula, kind)); err != nil {
				return fmt.Errorf("no drivers of OpenNebula there: %w", err)
			}
		}
		return nil
	}
	if c.SMAPIv1 != "" {
		if _, err := os.Stat(filepath.Join(c.SMAPIv1, "ReflinkSR")); err != nil {
			return fmt.Errorf("no driver of SMAPIv1 there: %w", err)
		}
		return nil
	}
	for i, dir := range append([]string{c.Volume}, c.Datapath...) {
		if st, err := os.Stat(dir); err != nil {
			return fmt.Errorf("no plugin there: %w", err)
		} else if !st.IsDir() {
			return fmt.Errorf("no plugin there: %s is not a directory", dir)
		}
		if i == 0 && !c.Offers("Plugin.query") {
			return fmt.Errorf("%s is no volume plugin's directory: there is no Plugin.Query in it", dir)
		}
	}
	return nil
}

// datapath finds the executable of a datapath plugin's call; "" if there is none.
// A plugin "*" is any.
func (c Config) datapath(plugin, method string) string {
	for _, named := range c.Datapath {
		all, _ := plugindir.All(plugindir.Datapath, named) // Check says why there is none
		for _, dir := range all {
			if plugin != "*" && filepath.Base(dir) != plugin {
				continue
			}
			path := present(filepath.Join(dir, method))
			if path != "" {
				return path
			}
		}
	}
	return ""
}

// datapaths is a directory that holds the datapath plugins by their names, whether they
// were named themselves or by such a directory; only if they are in several it is made.
func (c Config) datapaths(make string) (string, error) {
	var above []string
	for _, named := range c.Datapath {
		all, err := plugindir.All(plugindir.Datapath, named)
		if err != nil {
			return "", err
		}
		for _, dir := range all {
			if !slices.Contains(above, filepath.Dir(dir)) {
				above = append(above, filepath.Dir(dir))
			}
		}
	}
	switch len(above) {
	case 0:
		return "", nil
	case 1:
		return above[0], nil
	}
	if err := os.Mkdir(make, 0o755); err != nil {
		return "", err
	}
	for _, named := range c.Datapath {
		all, err := plugindir.All(plugindir.Datapath, named)
		if err != nil {
			return "", err
		}
		for _, dir := range all {
			// Of two by the same name calls go to the first.
			if err := os.Symlink(dir, filepath.Join(make, filepath.Base(dir))); err != nil && !errors.Is(err, os.ErrExist) {
				return "", err
			}
		}
	}
	return make, nil
}

// Offers says whether there is an executable for a call.
func (c Config) Offers(method string) bool {
	return c.executable(method) != ""
}

// ReadConfiguration reads the configuration with which SRs are made: a JSON object
// of strings, like {"path": "$SR_PATH"}. $SR_PATH is an empty directory made for
// the SR, $MNT the filesystem's mount point, $SR_UUID the SR's UUID.
func ReadConfiguration(file string) (map[string]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	conf := map[string]string{}
	if err := json.Unmarshal(data, &conf); err != nil {
		return nil, fmt.Errorf("%s is no SR configuration: want a JSON object of strings, like {\"path\": \"$SR_PATH\"}: %w", file, err)
	}
	for key, value := range conf {
		os.Expand(value, func(name string) string {
			if !slices.Contains(configurationVariables, name) {
				err = fmt.Errorf("%s: there is no $%s in an SR configuration (%s); there are $SR_PATH, $MNT and $SR_UUID", file, name, key)
			}
			return ""
		})
	}
	return conf, err
}

var configurationVariables = []string{"SR_PATH", "MNT", "SR_UUID"}

// params are testscript's, for the scenarios in files.
func (c Config) params(files []string) testscript.Params {
	verbs := map[string]func(*testscript.TestScript, bool, []string){}
	for _, v := range table {
		verbs[v.name] = v.command()
	}
	return testscript.Params{
		Files:               files,
		Setup:               c.setup,
		Cmds:                verbs,
		Condition:           c.condition,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	}
}

func (c Config) setup(env *testscript.Env) error {
	if err := c.stopped(); err != nil {
		env.T().Skip(err)
	}
	datapaths, err := c.datapaths(filepath.Join(env.WorkDir, ".datapath"))
	if err != nil {
		return err
	}
	env.Setenv("VOLUME", c.Volume)
	env.Setenv("DATAPATH", datapaths)
	env.Setenv("FS", c.FS)
	s := &script{config: c, work: env.WorkDir, devices: map[string]*madeDevice{}, sums: map[string]contents{}, remembered: map[string]*pieces{}, plugs: map[string][]plugged{}, keys: map[string]bool{}, marks: map[string]uint64{}}
	for _, name := range []string{"UUID_A", "UUID_B", "UUID_C"} {
		id := newUUID()
		env.Setenv(name, id)
		s.uuids = append(s.uuids, id)
	}
	env.Values[stateKey{}] = s
	if w, ok := env.T().(*watched); ok {
		w.script, s.t = s, w
		limited, cancel := c.limited()
		s.config = limited
		stop := context.AfterFunc(limited.context(), w.hunt)
		env.Defer(func() { w.stopped = s.config.stopped(); stop(); cancel() })
	}
	env.Defer(s.cleanUp)
	return nil
}

// condition answers [root], [fs:KIND] (the kind of this run), [can:KIND] (such a
// filesystem can be made here), [own], [race], [feature:NAME] (Plugin.query lists it) and
// [call:NAME] (the plugin offers it).
func (c Config) condition(word string) (bool, error) {
	kind, arg, _ := strings.Cut(word, ":")
	switch kind {
	case "root":
		return os.Getuid() == 0, nil
	case "own":
		return c.Own, nil
	case "race":
		return c.Race, nil
	case "fs", "can":
		if !slices.Contains(scratch.Kinds(), arg) {
			return false, fmt.Errorf("there is no filesystem of kind %q in [%s]", arg, word)
		}
		if kind == "fs" {
			return c.FS == arg, nil
		}
		return os.Getuid() == 0 && scratch.Available(arg) == nil, nil
	case "feature":
		if arg == "" {
			break
		}
		features, err := c.features()
		return slices.Contains(features, arg), err
	case "call":
		known := smapi.Find(arg)
		if known == nil {
			return false, fmt.Errorf("there is no call %q in the interface", arg)
		}
		return c.carriesOut(known.Call()), nil
	}
	return false, fmt.Errorf("unknown condition [%s]", word)
}

// queried caches the features of plugins by their directories.
var queried sync.Map

// features asks the volume plugin for its features, once.
func (c Config) features() ([]string, error) {
	if known, ok := queried.Load(c.Volume); ok {
		return known.([]string), nil
	}
	ctx, cancel := context.WithTimeout(c.context(), c.timeout())
	defer cancel()
	out := invoke.Command{Path: present(filepath.Join(c.Volume, smapi.PluginQuery{}.Call())), Request: nothing, Keep: keep}.Run(ctx)
	if ctx.Err() == context.DeadlineExceeded {
		return nil, fmt.Errorf("Plugin.Query of %s: no answer within %v; killed", c.Volume, c.timeout())
	}
	var answer smapi.QueryResult
	if err := out.Into(&answer); err != nil {
		return nil, fmt.Errorf("Plugin.Query of %s: %w", c.Volume, err)
	}
	queried.Store(c.Volume, answer.Features)
	return answer.Features, nil
}
