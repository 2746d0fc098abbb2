// Package rig is what the commands of srcrash stand on: an installed plugin whose
// calls are real processes, and a host of its own for them.
package rig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/plugin"
	"reflinksr/internal/rundir"
	"reflinksr/scripts/plugindir"
	"reflinksr/scripts/scratch"
)

// Plugin is an installed plugin.
type Plugin struct {
	Volume   string // directory of the volume plugin
	Datapath string // directory of the datapath plugin
}

// In is the plugin that is installed below root, as reflinksr install makes it.
func In(root string) Plugin {
	return Plugin{
		Volume:   filepath.Join(root, "volume", "org.xen.xapi.storage.reflink"),
		Datapath: filepath.Join(root, "datapath", "loop+blkback"),
	}
}

// Install installs the running program as the plugin below root. Its main must
// hand over to plugin.Main when it is called by the name of a call.
func Install(root string) (Plugin, error) {
	return In(root), plugin.Install([]string{"-root", root}, io.Discard)
}

// InstallFrom installs the program at path below root.
func InstallFrom(path, root string) (Plugin, error) {
	if out, err := exec.Command(path, "install", "--root", root).CombinedOutput(); err != nil {
		return Plugin{}, fmt.Errorf("%s install: %w: %s", path, err, bytes.TrimSpace(out))
	}
	return In(root), nil
}

// At is the plugin whose directories a tester has named, each itself or by the one above
// it: both, or neither, which is no plugin.
func At(volume, datapath string) (p Plugin, err error) {
	if volume == "" && datapath == "" {
		return p, nil
	}
	if volume == "" || datapath == "" {
		return p, errors.New("-volume and -datapath go together")
	}
	ours := In("")
	if p.Volume, err = located(plugindir.Volume, volume, ours.Volume); err == nil {
		p.Datapath, err = located(plugindir.Datapath, datapath, ours.Datapath)
	}
	return p, err
}

// located is absolute: calls are made from other directories.
func located(kind plugindir.Kind, dir, ours string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return plugindir.One(kind, dir, filepath.Base(ours))
}

// Path is the executable of a call.
func (p Plugin) Path(method string) string {
	if strings.HasPrefix(method, "Data") {
		return filepath.Join(p.Datapath, method)
	}
	return filepath.Join(p.Volume, method)
}

// RunTests is TestMain's work for a package whose test binary installs itself as the
// plugin and mounts filesystems: it runs m, a *testing.M, and returns the exit status.
func RunTests(m interface{ Run() int }) int {
	if plugin.IsCall(os.Args[0]) {
		return plugin.Main()
	}
	// Each call of a race-detecting build would wait a second before it ends.
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	if status, again := scratch.Isolate(); again {
		return status
	}
	return m.Run()
}

// Refusal is a well-formed error that a call answered.
type Refusal struct {
	Method string   `json:"-"`
	Code   string   `json:"code"`
	Params []string `json:"params"`
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("%s: refused: %s %q", r.Method, r.Code, r.Params)
}

// Named says whether the refusal is the interface's error of that name, or
// SR_BACKEND_FAILURE_ with that number.
func (r *Refusal) Named(name string) bool {
	return r.Code == "SR_BACKEND_FAILURE_"+name || r.Code == "SR_BACKEND_FAILURE" && len(r.Params) > 0 && r.Params[0] == name
}

// Request is the standard input of a call with these arguments.
func Request(args map[string]any) ([]byte, error) {
	all := map[string]any{"dbg": "srcrash"}
	for k, v := range args {
		all[k] = v
	}
	return json.Marshal(all)
}

// Call makes one call as the toolstack does: a process of its own, which gets args
// as JSON. out, unless nil, receives the answer. A refusal is a *Refusal; a process
// that was killed is an *exec.ExitError.
func (p Plugin) Call(method string, args map[string]any, out any) error {
	request, err := Request(args)
	if err != nil {
		return err
	}
	c := exec.Command(p.Path(method), "--json")
	c.Stdin = bytes.NewReader(request)
	c.Env = os.Environ()
	var stderr bytes.Buffer
	c.Stderr = &stderr
	answer, err := c.Output()
	return Judge(method, answer, stderr.Bytes(), err, out)
}

// Judge makes of a call's output and the way it ended what Call returns.
func Judge(method string, answer, stderr []byte, failed error, out any) error {
	var exit *exec.ExitError
	switch {
	case failed == nil && len(stderr) > 0:
		return fmt.Errorf("%s: succeeded, and wrote on standard error: %.300q", method, stderr)
	case failed == nil && out == nil:
		if !json.Valid(answer) {
			return fmt.Errorf("%s: answered what is no JSON: %.300q", method, answer)
		}
		return nil
	case failed == nil:
		if err := json.Unmarshal(answer, out); err != nil {
			return fmt.Errorf("%s: answered %.300q: %w", method, answer, err)
		}
		return nil
	case !errors.As(failed, &exit) || exit.ExitCode() < 0:
		return fmt.Errorf("%s: %w", method, failed)
	}
	r := &Refusal{Method: method}
	if err := json.Unmarshal(answer, r); err != nil || r.Code == "" {
		return fmt.Errorf("%s: exit status %d with the answer %.300q, and on standard error %.2000q", method, exit.ExitCode(), answer, stderr)
	}
	return r
}

// PrivateHost gives this process, which must be in a mount namespace of its own
// (scratch.Isolate), and its children what the plugin keeps about a host, empty.
func PrivateHost() error {
	return unix.Mount("tmpfs", filepath.Dir(rundir.Path), "tmpfs", 0, "mode=755")
}
