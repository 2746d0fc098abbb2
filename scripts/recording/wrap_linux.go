package recording

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/smapi"
)

// place is a plugin's directory and what belongs to it. The toolstack watches the
// parent and takes every directory in it for a plugin: what we put aside is beside
// the parent.
type place struct {
	dir      string
	aside    string // exists while wrapped: the recorder's program, locks, and
	original string // the plugin's own directory, below two names as it had, and
	links    string // the same with links in place of what a call leads to elsewhere
}

// simplePath is what the first line of a script can name, 127 bytes with what the recorder
// must know on Linux 4.19.
var simplePath = regexp.MustCompile(`^[A-Za-z0-9_./+,:@=-]{1,105}$`)

func placeOf(dir string) (p place, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return p, err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return p, err
	}
	p.dir = filepath.Join(parent, filepath.Base(dir))
	if filepath.Dir(parent) == parent {
		return p, fmt.Errorf("%s is no plugin's directory: those are two levels below a root, as in volume/NAME", p.dir)
	}
	p.aside = filepath.Join(filepath.Dir(parent), ".srtest-wrap."+filepath.Base(parent)+"."+filepath.Base(dir))
	names := filepath.Join(filepath.Base(parent), filepath.Base(dir))
	p.original, p.links = filepath.Join(p.aside, names), filepath.Join(p.aside, "links", names)
	if old := filepath.Join(p.aside, "original"); exists(old) { // wrapped by an earlier version
		p.original = old
	}
	return p, nil
}

// Wrap puts the recorder in front of a plugin. The directory is replaced, in one
// step, by one in which each call leads to a copy of program, which has to call
// AsWrapper; everything else in it is as it was. The original directory, the same
// inode, waits beside the parent until Unwrap.
//
// A plugin finds what it would find without us. A script stays where it was, and says the
// same from its second line on: the kernel takes the first one to start the recorder, and
// to interpreters it is a comment. That a kernel and an interpreter open it one after the
// other does no harm then, whichever of the two files each of them finds. A program is
// started with the argv[0] of the caller; only its /proc/self/exe, which is where the file
// is, names the place where it waits, by the same two last names. Links lead where they
// led. A script in another directory that a call is a link to is started by such a link,
// below the same two names, since its own place cannot be ours.
//
// Calls in progress go on, and find what they look for beside them, before and
// after; so do calls while it is wrapped, whose plugin is always at the same
// path. Unwrap waits up to a second for calls in progress, and holds new ones back
// for that long. A call that lasts longer goes on, and finds the plugin by the path
// it was started by; only if it opens a file of the plugin in the microseconds
// between two renames may it miss it.
//
// Where the filesystem cannot exchange directories, there is a moment without the
// plugin in both Wrap and Unwrap. A crash at any point is repaired by the
// next Wrap or Unwrap.
func Wrap(dir, log, program string) error {
	p, unlock, err := begin(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if log, err = filepath.Abs(log); err != nil {
		return err
	}
	st, err := os.Lstat(p.dir)
	switch {
	case err != nil:
		return err
	case st.Mode()&os.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link: name the directory it leads to", p.dir)
	case !st.IsDir():
		return fmt.Errorf("%s is no directory", p.dir)
	case isWrapping(p.dir):
		return fmt.Errorf("%s is wrapped already: take the recorder away with srtest unwrap", p.dir)
	}
	if err := os.Mkdir(p.aside, 0o755); err != nil {
		return fmt.Errorf("making a place for the original directory: %w", err)
	}
	defer func() {
		// The plugin is in one of two places; where it is in its own, aside is ours.
		if exists(p.dir) && !isWrapping(p.dir) && !p.holdsPlugin() {
			os.RemoveAll(p.aside)
		}
	}()
	if err := p.build(st.Mode().Perm(), log, program); err != nil {
		return err
	}
	// Calls go on if they cannot be recorded: say now that they could not.
	recording, err := openRecording(log)
	if err != nil {
		return fmt.Errorf("nothing could be recorded: %w", err)
	}
	recording.Close()
	if err := swap(p.original, p.dir, filepath.Join(p.aside, "third")); err != nil {
		return fmt.Errorf("putting the recorder in front of %s: %w", p.dir, err)
	}
	return p.sync()
}

// Unwrap takes the recorder away: the plugin's directory is what it was. If calls
// are still in progress, left is a directory that was left for them; the next Wrap
// or Unwrap removes it.
func Unwrap(dir string) (left string, err error) {
	p, unlock, err := begin(dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	n, err := readNote(p.dir)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s is not wrapped", p.dir)
	}
	if err != nil {
		return "", err
	}
	if n.Original != p.original || !p.holdsPlugin() {
		return "", fmt.Errorf("%s is wrapped, but its original directory is not in %s: install the plugin again", p.dir, p.original)
	}
	// For calls that know the plugin by the path it had while it was wrapped.
	link := filepath.Join(p.aside, "link")
	os.Remove(link)
	if err := os.Symlink(p.dir, link); err != nil {
		return "", err
	}
	quiet, open := empty(p.aside)
	defer open()
	if err := p.keep(n.Stands); err != nil {
		return "", fmt.Errorf("keeping what the plugin has written beside its calls: %w", err)
	}
	third := filepath.Join(p.aside, "third")
	if err := swap(p.dir, p.original, third); err != nil {
		return "", fmt.Errorf("putting %s back in place: %w", p.dir, err)
	}
	if err := swap(link, p.original, third); err != nil {
		return "", err
	}
	time.Sleep(grace)
	if !quiet {
		return p.aside, errors.Join(os.RemoveAll(link), p.sync())
	}
	return "", errors.Join(os.RemoveAll(p.aside), p.sync())
}

// grace is for calls whose wrapping script is just about to start the recorder.
const grace = 100 * time.Millisecond

// begin makes sure that nobody else wraps beside us, and repairs what a crash left.
func begin(dir string) (p place, unlock func(), err error) {
	if p, err = placeOf(dir); err != nil {
		return p, nil, err
	}
	root, err := os.Open(filepath.Dir(p.aside))
	if err != nil {
		return p, nil, err
	}
	if lockWithin(root, unix.LOCK_EX, 10*time.Second) {
		err = p.repair()
	} else {
		err = fmt.Errorf("somebody holds a lock on %s: is another srtest wrapping?", root.Name())
	}
	if err != nil {
		root.Close()
		return p, nil, err
	}
	return p, func() { root.Close() }, nil
}

// repair leaves one of two states: wrapped, or not wrapped and nothing aside.
func (p place) repair() error {
	if !exists(p.dir) && p.holdsPlugin() {
		// Between two renames, where directories cannot be exchanged.
		if err := os.Rename(p.original, p.dir); err != nil {
			return err
		}
	}
	switch {
	case !exists(p.dir) || isWrapping(p.dir):
		return nil
	case p.holdsPlugin():
		return fmt.Errorf("%s was replaced while it was wrapped, and what it was before is in %s: remove %s if it is not needed", p.dir, p.original, p.aside)
	}
	return os.RemoveAll(p.aside)
}

// holdsPlugin says that the plugin's own directory is aside.
func (p place) holdsPlugin() bool {
	st, err := os.Lstat(p.original)
	return err == nil && st.IsDir() && !isWrapping(p.original)
}

func isWrapping(dir string) bool {
	st, err := os.Lstat(dir)
	return err == nil && st.IsDir() && exists(filepath.Join(dir, noteName))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}

// build makes the wrapping directory, where the original will be.
func (p place) build(mode os.FileMode, log, program string) error {
	recorder := filepath.Join(p.aside, recorderName)
	if err := copyProgram(recorder, program); err != nil {
		return fmt.Errorf("copying %s: %w", program, err)
	}
	for _, name := range []string{doorName, roomName} {
		if err := os.WriteFile(filepath.Join(p.aside, name), nil, 0o644); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}
	started, calls := p.started(entries)
	if len(calls) == 0 {
		return fmt.Errorf("%s is no plugin: it has no executable named like a call, as Plugin.Query", p.dir)
	}
	// Complete before it has the name where a plugin may be.
	building := filepath.Join(p.aside, "building")
	for _, dir := range []string{building, filepath.Dir(p.original), p.links} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	n := note{Directory: p.dir, Original: p.original, Links: p.links, Log: log}
	for _, e := range entries {
		there, here := filepath.Join(p.dir, e.Name()), filepath.Join(building, e.Name())
		if slices.Contains(started, e.Name()) {
			err = front(there, here, recorder)
		} else {
			err = p.stand(there, here)
			n.Stands = append(n.Stands, e.Name())
		}
		if err != nil {
			return err
		}
		// As a call finds its neighbours that is started by a link elsewhere.
		target, inside := p.leads(e.Name())
		if inside {
			target = there
		}
		if err := os.Symlink(target, filepath.Join(p.links, e.Name())); err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(building, noteName), append(data, '\n'), 0o644); err != nil {
		return err
	}
	return errors.Join(os.Chmod(building, mode), os.Chmod(p.aside, 0o755), syncDir(building), os.Rename(building, p.original))
}

// started lists the files of the directory that its calls are: those themselves, or what
// they are links to. A call that leads elsewhere is listed by its own name.
func (p place) started(entries []os.DirEntry) (files, calls []string) {
	for _, e := range entries {
		if !isCall(filepath.Join(p.dir, e.Name())) {
			continue
		}
		calls = append(calls, e.Name())
		file := e.Name()
		if at, inside := p.leads(file); inside {
			file = at
		}
		if !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	return files, calls
}

// leads follows links from a name in the plugin's directory to a name in it, or to a path
// outside or below it.
func (p place) leads(name string) (to string, inside bool) {
	return follow(p.dir, p.dir, name)
}

// follow is leads for a directory that is at another place now than where links in it were
// made.
func follow(was, is, name string) (to string, inside bool) {
	for range 40 { // as many as the kernel
		link, err := os.Readlink(filepath.Join(is, name))
		if err != nil {
			return name, true
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(was, link)
		}
		if filepath.Dir(filepath.Clean(link)) != was {
			return link, false
		}
		name = filepath.Base(link)
	}
	return name, true
}

func isCall(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 && smapi.IsName(filepath.Base(path))
}

// front makes what stands for a file that calls are: a script with another first line, or
// the recorder itself by another name.
func front(there, here, recorder string) error {
	st, err := os.Lstat(there)
	if err != nil {
		return err
	}
	if st.Mode().IsRegular() {
		if _, _, err := interpreter(there); err == nil {
			if !simplePath.MatchString(filepath.Dir(recorder)) {
				return fmt.Errorf("%s cannot be wrapped: the path is too long, or has characters that a script's first line cannot have", there)
			}
			text, err := os.ReadFile(there)
			if err != nil {
				return err
			}
			text = append([]byte("#!"+recorder+" "+wrappedVerb+" "), bytes.TrimLeft(text[2:], " \t")...)
			return errors.Join(os.WriteFile(here, text, 0o700), os.Chmod(here, st.Mode().Perm()))
		} else if !errors.Is(err, errNoScript) {
			return err
		}
	}
	if os.Link(recorder, here) == nil {
		return nil
	}
	return copyProgram(here, recorder)
}

// stand makes what stands for anything else of the plugin's: itself, as far as something
// can have two names, and a link to it otherwise.
func (p place) stand(there, here string) error {
	st, err := os.Lstat(there)
	if err != nil {
		return err
	}
	if link, err := os.Readlink(there); err == nil {
		return os.Symlink(link, here)
	}
	if st.Mode().IsRegular() && os.Link(there, here) == nil {
		return nil
	}
	return os.Symlink(filepath.Join(p.original, filepath.Base(there)), here)
}

// keep takes over what the plugin has written, replaced or removed in its directory while
// that was the wrapping one. stood is what stood there for something of the plugin's.
func (p place) keep(stood []string) error {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}
	here := map[string]bool{noteName: true}
	for _, e := range entries {
		name := e.Name()
		here[name] = true
		now, err := os.Lstat(filepath.Join(p.dir, name))
		if err != nil {
			return err
		}
		was, err := os.Lstat(filepath.Join(p.original, name))
		switch {
		case name == noteName:
			continue
		case err == nil && !slices.Contains(stood, name), err == nil && os.SameFile(now, was):
			continue
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return err
		}
		if link, e := os.Readlink(filepath.Join(p.dir, name)); e == nil && err == nil {
			own, _ := os.Readlink(filepath.Join(p.original, name))
			if link == own || link == filepath.Join(p.original, name) {
				continue
			}
		}
		if err := os.Rename(filepath.Join(p.dir, name), filepath.Join(p.original, name)); err != nil {
			return err
		}
	}
	for _, name := range stood {
		if here[name] {
			continue
		}
		if err := os.Remove(filepath.Join(p.original, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// copyProgram: calls must not depend on where the tester keeps srtest.
func copyProgram(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(0o755), out.Sync(), out.Close())
}

// exchange is a variable for the tests: few filesystems cannot.
var exchange = func(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

// swap exchanges two names, by way of a third where the filesystem cannot. The
// plugin must not be a: after a crash it is then never in the third place.
func swap(a, b, third string) error {
	err := exchange(a, b)
	if err != unix.ENOSYS && err != unix.EINVAL {
		return err
	}
	if err := os.Rename(a, third); err != nil {
		return err
	}
	if err := os.Rename(b, a); err != nil {
		return errors.Join(err, os.Rename(third, a))
	}
	return os.Rename(third, b)
}

func (p place) sync() error {
	return errors.Join(syncDir(filepath.Dir(p.dir)), syncDir(filepath.Dir(p.aside)))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
