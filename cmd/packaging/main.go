// Command packaging builds the rpms and the debs, of the plugin and of the drivers for OpenNebula: the same bytes from the same sources, wherever, whenever and by whom it is run.
// It is started in the directory of the sources:
//
//	go run ./cmd/packaging [-out DIR] [-version V] [-release N]
//
// The time in them is that of the last commit, or SOURCE_DATE_EPOCH.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"text/template"
	"time"

	"reflinksr/cmd/internal/version"
)

// pluginRoot is where the toolstack of XCP-ng and XenServer looks for plugins; postinstall.sh says it as well.
const pluginRoot = "/usr/libexec/xapi-storage-script"

// here is this directory.
const here = "cmd/packaging"

func main() {
	out := flag.String("out", "bin", "directory for the packages")
	number := flag.String("version", version.Version, "version of the packages")
	release := flag.String("release", "1", "which package of that version this is")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "packaging takes no argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := packages(*out, *number, *release); err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

// shipped are the programs in the packages.
var shipped = []string{"./cmd/reflinksr", "./cmd/reflinksr-metrics", "./cmd/reflinksr-smapiv1", "./cmd/srnbd", "./cmd/srctl", "./cmd/srtest", "./cmd/onereflink"}

// configurations are what is in the packages: one for a host with SRs, and one for an OpenNebula front-end.
var configurations = []string{"nfpm.yaml", "onereflink.yaml"}

// description is what nfpm.yaml needs to know.
type description struct {
	Version, Release, Arch, Stage, Time string
	Ghosts                              []ghost
}

// ghost is a file that the package does not contain, but makes when it is installed.
type ghost struct {
	Path, Mode string
}

func packages(out, number, release string) error {
	at, err := sourceTime()
	if err != nil {
		return err
	}
	stage, err := os.MkdirTemp("", "reflinksr-packages-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	d := description{Version: number, Release: release, Arch: runtime.GOARCH, Stage: stage, Time: at.Format(time.RFC3339)}
	full := number + "-" + release
	if err := programs(stage, full); err != nil {
		return err
	}
	if d.Ghosts, err = ghosts(stage); err != nil {
		return err
	}
	if err := manuals(stage, full, at); err != nil {
		return err
	}
	if err := completion(stage); err != nil {
		return err
	}
	if err := licences(filepath.Join(stage, "licences")); err != nil {
		return err
	}
	if err := zipped("CHANGELOG.md", filepath.Join(stage, "changelog.gz")); err != nil {
		return err
	}
	return write(out, d)
}

// sourceTime is when the sources were last changed.
func sourceTime() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		log, err := exec.Command("git", "log", "-1", "--format=%ct").Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("git does not tell the time of the last commit: %w; set SOURCE_DATE_EPOCH to it", err)
		}
		text = strings.TrimSpace(string(log))
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("the time of the sources: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// programs builds what is shipped. What git knows is left out: whoever has only the sources builds the same.
func programs(stage, full string) error {
	build := exec.Command("go", append([]string{"build", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w -X reflinksr/cmd/internal/version.Version=" + full, "-o", stage}, shipped...)...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOAMD64=v1", "GOFLAGS=", "GOEXPERIMENT=")
	return run(build)
}

// ghosts are what reflinksr install makes in the toolstack's directory.
func ghosts(stage string) (found []ghost, err error) {
	root := filepath.Join(stage, "plugins")
	if err := run(exec.Command(filepath.Join(stage, "reflinksr"), "install", "--root", root)); err != nil {
		return nil, err
	}
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path)
		if err != nil || strings.Count(name, "/") == 0 { // the root and the two below it are the toolstack's
			return err
		}
		if e.Type() == fs.ModeSymlink {
			return nil // see nfpm.yaml
		}
		kind := map[fs.FileMode]string{0: "0o100755", fs.ModeDir: "0o40755"}[e.Type()]
		found = append(found, ghost{filepath.Join(pluginRoot, name), kind})
		return nil
	})
	return found, err
}

// completion has srctl write what a shell needs to complete its arguments.
func completion(stage string) error {
	dir := filepath.Join(stage, "completion")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		text, err := exec.Command(filepath.Join(stage, "srctl"), "completion", shell).Output()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, shell), text, 0o644)
		}
		if err != nil {
			return fmt.Errorf("srctl completion %s: %w", shell, err)
		}
	}
	return nil
}

// write has nfpm make the packages.
func write(out string, d description) error {
	for _, name := range configurations {
		if err := writeOne(out, name, d); err != nil {
			return err
		}
	}
	return nil
}

func writeOne(out, name string, d description) error {
	text, err := template.ParseFiles(filepath.Join(here, name))
	if err != nil {
		return err
	}
	config := filepath.Join(d.Stage, name)
	f, err := os.Create(config)
	if err != nil {
		return err
	}
	if err := errors.Join(text.Execute(f, d), f.Close()); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, kind := range []string{"rpm", "deb"} {
		if err := run(exec.Command("go", "tool", "-modfile=tools/go.mod", "nfpm", "package", "--config", config, "--packager", kind, "--target", out)); err != nil {
			return err
		}
	}
	return nil
}

// run runs a program that says something only if it fails.
func run(c *exec.Cmd) error {
	if said, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, said)
	}
	return nil
}
