package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/datastore"
	"reflinksr/internal/fault"
	"reflinksr/internal/opennebula"
	"reflinksr/internal/program"
)

// task is the work of an action on the host that has the files.
type task struct {
	Do         string
	From, To   string
	Snapshot   int
	Size       int64
	Format, FS string
	MayCopy    bool
	Raw        bool   // no disk: its contents are not looked at
	Guest      string // by the hypervisor's name for it: to be frozen meanwhile
	MD5, SHA1  string
	Disks      []datastore.Backup
	Data       []byte
	Safe       []string
	Restricted []string
	Held       bool // whoever asks keeps the connection open while the work is wanted
	Coming     bool // what is to be taken comes with the task
	Restored   []datastore.Restored
	// A backup that is read by another program, if it is one.
	Interactive *interactive

	feed   func(ctx context.Context, to *opennebula.Parts) error // sends what comes with the task
	coming io.Reader                                             // is that
}

// run does it here.
func (t task) run(ctx context.Context) (string, error) {
	switch t.Do {
	case "clone":
		return "", datastore.Clone(ctx, datastore.Cloning{From: t.From, Snapshot: t.Snapshot, To: t.To, Size: t.Size, Format: t.Format, MayCopy: t.MayCopy})
	case "take":
		if t.Coming {
			return datastore.Receive(ctx, datastore.Import{From: t.From, To: t.To, Convert: t.Format, Raw: t.Raw}, opennebula.Part(t.coming))
		}
		path, err := datastore.Allowed(t.From, t.Safe, t.Restricted)
		if err != nil {
			return "", err
		}
		return datastore.Take(ctx, datastore.Import{From: path, To: t.To, Convert: t.Format, Raw: t.Raw, MD5: t.MD5, SHA1: t.SHA1})
	case "size":
		path, err := datastore.Allowed(t.From, t.Safe, t.Restricted)
		if err != nil {
			return "", err
		}
		size, err := datastore.Size(path, t.Raw)
		return fmt.Sprint((size + 1<<20 - 1) >> 20), err
	case "make":
		return "", datastore.Make(t.To, t.Format, t.FS, t.Size)
	case "link":
		return "", datastore.Link(t.From, t.To)
	case "keep":
		return "", datastore.Keep(t.From, t.To)
	case "move":
		return "", datastore.Move(t.From, t.To)
	case "remove":
		return "", datastore.Remove(t.From)
	case "remove disk":
		return "", datastore.RemoveDisk(t.From)
	case "remove guest":
		return "", datastore.RemoveGuest(t.From)
	case "snapshot":
		defer freeze(t.Guest)()
		return "", datastore.Snapshot(ctx, t.From, t.Snapshot)
	case "revert":
		return "", datastore.Revert(ctx, t.From, t.Snapshot)
	case "delete snapshot":
		return "", datastore.DeleteSnapshot(t.From, t.Snapshot)
	case "flatten":
		return "", datastore.Flatten(ctx, t.From, t.Snapshot)
	case "resize":
		return "", datastore.Resize(t.From, t.Format, t.Size)
	case "backup":
		return "", backup(ctx, t)
	case "restore":
		return "", datastore.Restore(ctx, t.From, t.Restored, func() io.Reader { return opennebula.Part(t.coming) })
	case "remove backup":
		return "", datastore.RemoveBackup(t.To)
	case "md5":
		return datastore.MD5(ctx, t.From)
	case "usage":
		s, err := datastore.Usage(t.From)
		return fmt.Sprintf("USED_MB=%d\nTOTAL_MB=%d\nFREE_MB=%d\n", s.Used>>20, s.Total>>20, s.Free>>20), err
	}
	return "", fmt.Errorf("there is no task %q: do both hosts have the same onereflink? onehost sync -f", fault.Shorten(t.Do))
}

// freeze has a guest's agent write out its filesystems and hold them still, for a moment, and returns what ends that. A guest without an agent is not frozen: its
// disk is as after a power cut. No guest is suspended.
func freeze(guest string) func() {
	if guest == "" {
		return func() {}
	}
	virsh := func(command string, timeout time.Duration) {
		_, _, _ = program.RunFor(timeout, "libvirt-clients", "virsh", "-c", "qemu:///system", command, guest)
	}
	virsh("domfsfreeze", 10*time.Second)
	return func() { virsh("domfsthaw", 30*time.Second) }
}

// longest is how many bytes a task may have: it has a guest's description in it.
const longest = 64 << 20

// serve does the task that comes from another host.
func serve(ctx context.Context, in io.Reader, out, errs io.Writer) int {
	var t task
	d := json.NewDecoder(io.LimitReader(in, longest))
	d.DisallowUnknownFields()
	err := d.Decode(&t)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t.coming = io.MultiReader(d.Buffered(), in)
	if t.Held {
		from, to := io.Pipe()
		defer from.Close()
		go func(all io.Reader) {
			io.Copy(to, all)
			io.Copy(io.Discard, all) // what nobody wants any more
			gone := errors.New("the host that asked for it does not any more")
			to.CloseWithError(gone)
			cancel(gone)
		}(t.coming)
		t.coming = from
	}
	if err != nil {
		err = fmt.Errorf("the task cannot be read: do both hosts have the same onereflink? onehost sync -f: %w", err)
	}
	var answer string
	if err == nil {
		answer, err = t.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(errs, opennebula.OneLine(err.Error()))
		return 1
	}
	io.WriteString(out, answer)
	return 0
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}$`)

// here says whether a host is this one.
func here(host string) bool {
	name, err := os.Hostname()
	if err != nil || host == "" || host == "localhost" {
		return err == nil
	}
	short := func(s string) string { s, _, _ = strings.Cut(s, "."); return s }
	if !strings.Contains(host, ".") || !strings.Contains(name, ".") {
		return strings.EqualFold(short(host), short(name))
	}
	return strings.EqualFold(host, name)
}

// at does a task on a host: here, or by one ssh, with what comes with the task.
func (t task) at(ctx context.Context, host string) (string, error) {
	if t.feed == nil {
		return t.on(ctx, host)
	}
	feeding, stop := context.WithCancel(ctx)
	defer stop()
	from, to := io.Pipe()
	fed := make(chan error, 1)
	go func() {
		err := t.feed(feeding, opennebula.NewParts(to))
		fed <- err
		if err == nil {
			err = io.ErrUnexpectedEOF // of more than there is
		}
		to.CloseWithError(err)
	}()
	t.Coming, t.coming = true, from
	answer, err := t.on(ctx, host)
	from.Close()
	select {
	case why := <-fed:
		if why != nil && err != nil && ctx.Err() == nil && !errors.Is(why, io.ErrClosedPipe) {
			err = why // and not what came of it
		}
	default: // it was not needed
		stop()
		<-fed
	}
	return answer, err
}

func (t task) on(ctx context.Context, host string) (string, error) {
	if here(host) {
		return t.run(ctx)
	}
	if !hostName.MatchString(host) {
		return "", fault.Errorf(fault.ErrInvalid, host, "%q is no name of a host", fault.Shorten(host))
	}
	t.Held = true
	data, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	remotes := os.Getenv("SCRIPTS_REMOTE_DIR")
	if remotes == "" {
		remotes = "/var/tmp/one"
	}
	c := exec.CommandContext(ctx, "ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "--", host, quote(remotes+"/tm/reflink/onereflink")+" host") // #nosec G204 G702 -- a host's name and a fixed path
	c.Cancel = func() error { return c.Process.Signal(unix.SIGTERM) }
	c.WaitDelay = 10 * time.Second
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	in, err := c.StdinPipe() // it stays open until the end: the other host breaks off if it ends before
	if err != nil {
		return "", err
	}
	if err = c.Start(); err == nil {
		_, _ = in.Write(data) // what came of it, the end tells
		if t.coming != nil {
			go func() {
				if _, err := io.Copy(in, t.coming); err != nil {
					in.Close()
				}
			}()
		}
		err = c.Wait()
	}
	var ended *exec.ExitError
	switch {
	case err == nil:
		return out.String(), nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.As(err, &ended) && ended.ExitCode() == 1:
		return "", fmt.Errorf("%s: %s", host, opennebula.OneLine(errs.String()))
	case errors.As(err, &ended) && ended.ExitCode() == 255:
		return "", fault.Hint(fault.Errorf(fault.ErrUnavailable, host, "host %s cannot be reached by ssh: %s", host, opennebula.OneLine(fault.Shorten(errs.String()))), "as oneadmin, try: ssh %s", host)
	}
	return "", fault.Hint(fault.Errorf(fault.ErrUnavailable, host, "onereflink did not run on %s (%v): %s", host, err, opennebula.OneLine(fault.Shorten(errs.String()))), "onehost sync -f puts it there")
}

// quote is a text as one word of a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
