package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
	"reflinksr/internal/smapiv1"
)

// former is a command of the interface's first form: a device configuration, an SR, and what each has of its own.
type former struct {
	driver string
	name   string
	dconf  map[string]string
	sr     string   // its UUID
	args   []string // as many as the table says
}

// formers are the commands of the first form: what their arguments behind the SR's UUID are, and what carries them out and answers a text.
var formers = map[string]struct {
	args []string
	do   func(*former, context.Context) (string, error)
}{
	"sr_create":       {[]string{"SIZE"}, (*former).srCreate},
	"sr_delete":       {nil, (*former).srDelete},
	"sr_attach":       {nil, (*former).srAttach},
	"sr_detach":       {nil, (*former).srDetach},
	"sr_content_type": {nil, (*former).srContentType},
	"sr_scan":         {nil, (*former).srScan},
	"vdi_create":      {[]string{"VDI-UUID", "SIZE"}, (*former).vdiCreate},
	"vdi_delete":      {[]string{"VDI-UUID"}, (*former).vdiDelete},
	"vdi_attach":      {[]string{"VDI-UUID"}, (*former).vdiAttach},
	"vdi_detach":      {[]string{"VDI-UUID"}, (*former).vdiDetach},
	"vdi_clone":       {[]string{"VDI-UUID", "NEW-VDI-UUID"}, (*former).vdiClone},
	"vdi_snapshot":    {[]string{"VDI-UUID", "NEW-VDI-UUID"}, (*former).vdiSnapshot},
	"vdi_resize":      {[]string{"VDI-UUID", "SIZE"}, (*former).vdiResize},
	"vdi_lock":        {[]string{"VDI-UUID", "FORCE", "USER"}, (*former).vdiLock},
	"vdi_unlock":      {[]string{"VDI-UUID", "USER"}, (*former).vdiUnlock},
}

// formerly carries out a command of the first form, and returns the exit status: an errno, with a letter on standard error.
func formerly(ctx context.Context, driver string, args []string, out, errs io.Writer) int {
	name := args[0]
	if strings.HasPrefix(strings.TrimSpace(name), "<") && len(args) > 1 { // the configuration may come first
		args = slices.Concat(args[1:2], args[:1], args[2:])
		name = args[0]
	}
	slog.SetDefault(slog.New(log.WithAttrs([]slog.Attr{slog.String("call", fault.Shorten(name)), slog.String("driver", driver)})))
	start := time.Now()
	answer, err := doFormerly(ctx, driver, name, args[1:])
	if err == nil {
		_, err = io.WriteString(out, answer)
	}
	if err != nil {
		slog.Error("failed", "took", time.Since(start), "err", err)
		fmt.Fprintln(errs, smapiv1.LetterOf(name, err))
		return smapiv1.StatusOf(name, err)
	}
	slog.Info("done", "took", time.Since(start))
	return 0
}

func doFormerly(ctx context.Context, driver, name string, args []string) (string, error) {
	command, known := formers[name]
	if !known {
		return "", fault.Hint(fault.Errorf(smapiv1.ErrUnimplemented, name, "there is no command %q", fault.Shorten(name)), "there are %s", strings.Join(slices.Sorted(maps.Keys(formers)), ", "))
	}
	if len(args) != 2+len(command.args) {
		return "", fault.Errorf(fault.ErrInvalid, "arguments", "%d arguments were given, and it takes %d: DCONF SR-UUID %s", len(args), 2+len(command.args), strings.Join(command.args, " "))
	}
	dconf, err := smapiv1.ParseDconf(args[0])
	if err != nil {
		return "", err
	}
	uuid, err := repository.ParseKey(strings.ToLower(args[1]))
	if err != nil {
		return "", fault.Errorf(fault.ErrInvalid, "uuid", "the UUID of the SR is %q, which is none", fault.Shorten(args[1]))
	}
	f := &former{driver: driver, name: name, dconf: dconf, sr: string(uuid), args: args[2:]}
	if dconf, err = configuration(driver, dconf, f.sr); err != nil {
		return "", err
	}
	f.dconf = dconf
	answer, err := command.do(f, ctx)
	return answer, repository.Explain(dconf["path"], err)
}

func (f *former) srCreate(ctx context.Context) (string, error) {
	// A filesystem has the size that it has.
	if _, err := smapiv1.ParseSize("the size of the SR", f.args[0]); err != nil {
		return "", err
	}
	return "", create(ctx, repository.NewSR{UUID: f.sr, Configuration: f.dconf})
}

func (f *former) srDelete(ctx context.Context) (string, error) {
	return "", destroy(ctx, f.sr, f.dconf)
}

func (f *former) srAttach(ctx context.Context) (string, error) {
	_, err := repository.AttachBy(ctx, repository.SMAPIv1, f.dconf)
	return "", err
}

func (f *former) srDetach(ctx context.Context) (string, error) { return "", detach(ctx, f.sr) }

func (f *former) srContentType(context.Context) (string, error) {
	return smapiv1.TypeDocument(contentType), nil
}

func (f *former) srScan(ctx context.Context) (string, error) {
	sr, err := attachedSR(ctx, f.sr)
	if err != nil {
		return "", err
	}
	found, err := contents(ctx, sr)
	if err != nil {
		return "", err
	}
	active, err := sr.Leases(ctx)
	locked := map[string]bool{}
	for _, a := range active {
		locked[string(a.Key)] = slices.ContainsFunc(a.Holders, func(h repository.Holder) bool { return h.Lock != "" })
	}
	if err != nil {
		slog.Warn("whether a disk is locked cannot be told", "sr", f.sr, "err", err)
	}
	for i := range found.Disks {
		found.Disks[i].Locked = locked[found.Disks[i].UUID]
	}
	return found.Document(), nil
}

// volume is the disk that an argument names, in the SR, which must be attached.
func (f *former) volume(ctx context.Context, i int) (repository.Volume, error) {
	sr, err := attachedSR(ctx, f.sr)
	if err != nil {
		return repository.Volume{}, err
	}
	return repository.ParseVolume(sr, strings.ToLower(f.args[i]))
}

// present is a disk that is there.
func (f *former) present(ctx context.Context) (repository.Volume, repository.VolumeStat, repository.Datapath, error) {
	v, err := f.volume(ctx, 0)
	if err != nil {
		return v, repository.VolumeStat{}, "", err
	}
	st, err := v.Stat(ctx)
	if err != nil {
		return v, st, "", err
	}
	d, err := v.Datapath()
	return v, st, d, err
}

func (f *former) vdiCreate(ctx context.Context) (string, error) {
	sr, err := attachedSR(ctx, f.sr)
	if err != nil {
		return "", err
	}
	n := repository.NewVolume{}
	if n.Key, err = newKey(f.args[0]); err != nil {
		return "", err
	}
	if n.Size, err = smapiv1.ParseSize("the size", f.args[1]); err != nil {
		return "", err
	}
	_, err = sr.Create(ctx, n)
	return "", err
}

func (f *former) vdiDelete(ctx context.Context) (string, error) {
	v, err := f.volume(ctx, 0)
	if err != nil {
		return "", err
	}
	return "", v.Destroy(ctx)
}

// vdiAttach gives this host the disk, to be written to if it can be. Who has it on another host is told as its user.
func (f *former) vdiAttach(ctx context.Context) (string, error) {
	_, _, d, err := f.present(ctx)
	if err != nil {
		return "", err
	}
	if err := d.MayActivate(ctx, repository.SMAPIv1, false); err != nil {
		return "", err
	}
	device, err := attach(ctx, d, repository.SMAPIv1)
	if err != nil {
		return "", err
	}
	if err := d.Activate(ctx, repository.SMAPIv1, false); err != nil {
		return "", errors.Join(err, d.Detach(ctx, repository.SMAPIv1))
	}
	return smapiv1.PathDocument(device), nil
}

func (f *former) vdiDetach(ctx context.Context) (string, error) {
	_, _, d, err := f.present(ctx)
	if err != nil {
		return "", err
	}
	return "", d.DetachIdle(ctx, repository.SMAPIv1)
}

// target is the disk that is to be made of another, which must be there.
func (f *former) target(ctx context.Context) (v repository.Volume, label repository.Label, err error) {
	v, st, _, err := f.present(ctx)
	if err != nil {
		return v, label, err
	}
	label = repository.Label{Name: st.Name, Description: st.Description}
	if label.Key, err = newKey(f.args[1]); err == nil && label.Key == "" {
		err = fault.Errorf(fault.ErrInvalid, "uuid", "the UUID for the new disk is missing")
	}
	return v, label, err
}

// vdiClone makes a writable disk of one that nobody has.
func (f *former) vdiClone(ctx context.Context) (string, error) {
	v, label, err := f.target(ctx)
	if err == nil {
		err = v.MustBeIdle(ctx)
	}
	if err == nil {
		_, err = v.CloneAs(ctx, label)
	}
	return "", err
}

func (f *former) vdiSnapshot(ctx context.Context) (string, error) {
	v, label, err := f.target(ctx)
	if err == nil {
		_, err = v.SnapshotAs(ctx, label)
	}
	return "", err
}

// vdiResize makes a disk longer that nobody has; one that is as long stays as it is.
func (f *former) vdiResize(ctx context.Context) (string, error) {
	v, _, _, err := f.present(ctx)
	if err != nil {
		return "", err
	}
	size, err := smapiv1.ParseSize("the new size", f.args[1])
	if err == nil {
		err = v.MustBeIdle(ctx)
	}
	if err == nil {
		err = v.Resize(ctx, size)
	}
	return "", err
}

// asLock is the error of a command about locks: what is in the way of one has one number, whatever it is.
func asLock(err error) error {
	switch fault.Classify(err) {
	case fault.ErrInUse, fault.ErrElsewhere, fault.ErrBusy:
		return fault.Errorf(smapiv1.ErrLocked, "lock", "%w", err)
	}
	return err
}

func (f *former) vdiLock(ctx context.Context) (string, error) {
	force, is := map[string]bool{"TRUE": true, "FALSE": false}[strings.ToUpper(f.args[1])]
	if !is {
		return "", fault.Errorf(fault.ErrInvalid, "force", "whether the lock is to be broken is %q, it must be TRUE or FALSE", fault.Shorten(f.args[1]))
	}
	_, _, d, err := f.present(ctx)
	if err != nil {
		return "", err
	}
	return "", asLock(d.Lock(ctx, f.args[2], force))
}

func (f *former) vdiUnlock(ctx context.Context) (string, error) {
	_, _, d, err := f.present(ctx)
	if err != nil {
		return "", err
	}
	return "", asLock(d.Unlock(ctx, f.args[1]))
}
