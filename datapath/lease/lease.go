package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/layout"
	"reflinksr/internal/loop"
	"reflinksr/internal/record"
	"reflinksr/sr"
)

// Lease says who has a volume active, on all hosts. What other hosts hold is read
// from a file in the SR; what this host holds is in its Note, and repeated in the
// file for the others. Whoever changes it holds SR.LockLeases.
type Lease struct {
	Format  int      `json:"format"`
	Holders []Holder `json:"holders"`
}

// Holder is one domain that has a volume active.
type Holder struct {
	Host   string    `json:"host"` // the host's UUID
	Boot   string    `json:"boot"` // the host's boot id: of another boot, the holder is no more
	Domain string    `json:"domain"`
	Write  bool      `json:"write"`
	Since  time.Time `json:"since"`

	// Lock is by whom the volume was locked, of a holder that is such a lock and no domain (datapath.Lock).
	Lock string `json:"lock,omitempty"`

	// Hardware tells hosts with one UUID apart, where several can have the filesystem mounted.
	Hardware *hostinfo.Hardware `json:"hardware,omitempty"`
}

// NewHolder is a domain of this host that has a volume of the SR active from now on.
func NewHolder(s *sr.SR, me hostinfo.Host, domain string, write bool) Holder {
	h := Holder{Host: me.UUID, Boot: me.Boot, Domain: domain, Write: write, Since: time.Now().UTC().Truncate(time.Second)}
	if s.Meta.Filesystem.Clustered() {
		hardware := hostinfo.ThisHardware()
		h.Hardware = &hardware
	}
	return h
}

// Claim is what a holder is to this host.
type Claim int

const (
	Elsewhere Claim = iota // another host's, or nobody can tell that it is over
	here                   // this boot's of this host
	Over                   // a former boot's of this host
)

// Claim is told by the boot. That another boot of a host with this UUID is over is certain
// where only one host can have the filesystem mounted. Where several can, it takes that
// the machine is the same: hosts that were installed from one image have one UUID.
func (h Holder) Claim(me hostinfo.Host, hardware func() hostinfo.Hardware, fs filesystem.Identity) Claim {
	switch {
	case h.Boot == me.Boot:
		return here
	case !fs.Clustered():
		if h.Host == me.UUID {
			return Over
		}
		return Elsewhere
	case h.Hardware != nil:
		if same, _ := hardware().Same(*h.Hardware); same {
			return Over
		}
	}
	return Elsewhere
}

// Here says whether a holder that Read told of is on this host.
func (h Holder) Here(me hostinfo.Host) bool { return h.Boot == me.Boot }

// InUse is the error for a volume that a holder has: on another host, to which the toolstack
// turns then, or here.
func (h Holder) InUse(key sr.Key, me hostinfo.Host) error {
	switch {
	case h.Here(me):
		return fault.Errorf(fault.ErrInUse, string(key), "volume %s is in use: active in %s", key, h)
	case h.Host == me.UUID:
		return fault.Hint(fault.Errorf(fault.ErrInUse, string(key), "volume %s is in use: active in %s, which is another machine with this host's UUID, or this one before it was rebuilt", key, h),
			"end that domain there, or, when it is certain that it is no more, run: srctl lease break %s", key)
	}
	return fault.Errorf(fault.ErrElsewhere, h.Host, "volume %s is active in %s", key, h)
}

func (h Holder) String() string {
	mode := "read-only"
	if h.Write {
		mode = "read-write"
	}
	if h.Lock != "" {
		return fmt.Sprintf("the lock of %s on host %s (since %s)", Plain(h.Lock), Plain(h.Host), h.Since.Format(time.RFC3339))
	}
	return fmt.Sprintf("domain %s on host %s (%s, since %s)", Plain(h.Domain), Plain(h.Host), mode, h.Since.Format(time.RFC3339))
}

// Plain quotes what could be taken for more than a word of a sentence: a lease is
// whatever somebody wrote to its file.
func Plain(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` || len(s) > 80 {
		return fmt.Sprintf("%.80q", s)
	}
	return s
}

// Read reads who has the volume active.
func Read(s *sr.SR, key sr.Key, me hostinfo.Host) (Lease, error) {
	l, err := ReadFile(s, key)
	if err != nil {
		return l, err
	}
	note, err := NoteOf(s, key)
	if fault.Unseen(err) {
		return l, err // it can be read again in a moment
	}
	if err != nil {
		return l, nil // in doubt, what the file says of this host
	}
	others := l.others(s, me)
	return Lease{Holders: append(others, note.Active...)}, nil
}

// others are the holders that are on other hosts, as far as can be told.
func (l Lease) others(s *sr.SR, me hostinfo.Host) []Holder {
	return slices.DeleteFunc(slices.Clone(l.Holders), func(h Holder) bool {
		return h.Claim(me, hostinfo.ThisHardware, s.Meta.Filesystem) != Elsewhere
	})
}

// ReadFile reads the lease of a volume as it is on the SR: an empty one if there is none.
func ReadFile(s *sr.SR, key sr.Key) (Lease, error) {
	data, err := s.Leases.Read(string(key), record.Limit)
	if errors.Is(err, os.ErrNotExist) {
		return Lease{}, nil
	}
	if err != nil {
		return Lease{}, err
	}
	l, err := parseLease(data)
	switch {
	case errors.Is(err, fault.ErrNewer):
		return l, fault.Hint(fault.Errorf(fault.ErrNewer, string(key), "volume %s: its lease has format %d, this version knows %d", key, l.Format, layout.Format),
			"update reflinksr on this host")
	case err != nil:
		return l, fault.Hint(fault.Errorf(fault.ErrDamaged, string(key), "volume %s: its lease cannot be read (%v), so it may be active somewhere", key, err),
			"make sure that it is not, then run: srctl lease break")
	}
	return l, nil
}

// parseLease reads a lease; of a newer format only that, with ErrNewer.
func parseLease(data []byte) (Lease, error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return Lease{}, err
	}
	if version.Format > layout.Format {
		return Lease{Format: version.Format}, fault.ErrNewer
	}
	var l Lease
	return l, json.Unmarshal(data, &l)
}

// Publish writes down for other hosts who has the volume active, now that own
// are the holders on this one. The caller holds SR.LockLeases and keeps own in the
// Note. Where no other host can see the filesystem, one that is full or read-only
// is no obstacle.
func Publish(s *sr.SR, key sr.Key, me hostinfo.Host, own []Holder) error {
	l, err := ReadFile(s, key)
	if err != nil {
		return err
	}
	others := l.others(s, me)
	return replaceLease(s, key, l, append(others, own...))
}

// Sweep is Publish for SR.attach, the first in this boot: where only one host can
// have the filesystem mounted, whoever is not of this boot is no more, whatever the host
// was called then.
func Sweep(s *sr.SR, key sr.Key, me hostinfo.Host, own []Holder) error {
	if s.Meta.Filesystem.Clustered() {
		return Publish(s, key, me, own)
	}
	l, err := ReadFile(s, key)
	if err != nil {
		return err
	}
	return replaceLease(s, key, l, own)
}

// Strangers are the holders of a lease that are not of this boot, though the volume has a
// device on this host: whoever made that still runs. Where several hosts can have the
// filesystem mounted, they have devices of their own.
func Strangers(s *sr.SR, key sr.Key, me hostinfo.Host) ([]Holder, error) {
	if s.Meta.Filesystem.Clustered() {
		return nil, nil
	}
	l, err := ReadFile(s, key)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(l.Holders, func(h Holder) bool { return h.Here(me) }), nil
}

func replaceLease(s *sr.SR, key sr.Key, l Lease, now []Holder) error {
	if slices.EqualFunc(now, l.Holders, Holder.equal) {
		return removeHalf(s, key)
	}
	err := WriteFile(s, key, now)
	if class := fault.Classify(err); !s.Meta.Filesystem.Clustered() && (class == fault.ErrNoSpace || class == fault.ErrReadOnly) {
		slog.Warn("the lease is kept on this host only", "key", key, "err", err)
		err = nil
	}
	return err
}

func (h Holder) equal(o Holder) bool {
	hardware := (h.Hardware == nil) == (o.Hardware == nil) && (h.Hardware == nil || h.Hardware.System == o.Hardware.System && slices.Equal(h.Hardware.NICs, o.Hardware.NICs))
	h.Hardware, o.Hardware = nil, nil
	return h == o && hardware
}

// removeHalf removes what a call left that was killed while it wrote the lease. On a
// read-only filesystem that is nothing, and only finding out would fail.
func removeHalf(s *sr.SR, key sr.Key) error {
	name := string(key) + ".new"
	if there, err := s.Staging.Exists(name); err != nil || !there {
		return err
	}
	return s.Staging.Remove(name)
}

// WriteFile writes it, durably; without holders it removes it.
func WriteFile(s *sr.SR, key sr.Key, holders []Holder) error {
	if len(holders) == 0 {
		// Need not be durable: a lease that a power cut brings back is an old boot's.
		return s.Leases.Remove(string(key))
	}
	data, err := json.Marshal(Lease{Format: layout.Format, Holders: holders})
	if err != nil {
		return err
	}
	// On a shared SR other hosts must find it even if the server crashes now.
	return s.Replace(s.Leases, string(key), data)
}

// CheckIdle refuses with ErrInUse if the volume is active anywhere or has a
// device on this host. The caller holds the volume's lock.
func CheckIdle(s *sr.SR, key sr.Key) error {
	me, err := hostinfo.ThisHost()
	if err != nil {
		return err
	}
	bound, err := LoopsOf(s.Path, key)()
	if err != nil {
		return err
	}
	return CheckIdleAmong(s, key, me, bound)
}

// CheckIdleAmong is CheckIdle, of loop devices that were listed before.
func CheckIdleAmong(s *sr.SR, key sr.Key, me hostinfo.Host, bound loop.Bound) error {
	lease, err := Read(s, key, me)
	if err != nil {
		return err
	}
	if len(lease.Holders) > 0 {
		return fault.Errorf(fault.ErrInUse, string(key), "volume %s is in use: active in %s", key, joinHolders(lease.Holders))
	}
	note, err := NoteOf(s, key)
	if err != nil {
		note = Note{} // then devices tell
	}
	if err := InPlaceAmong(s, key, note, Listed(bound)); err != nil {
		return err
	}
	for _, place := range []struct {
		dir  *dirfs.Dir
		name string
	}{{s.Root, sr.Data(key)}, {s.Staging, note.NonpersistentName(key, me)}} {
		st, err := place.dir.Stat(place.name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if st == nil {
			return err
		}
		devices, err := bound.Of(st.Dev, st.Ino, string(key))
		if err != nil {
			return err
		}
		if len(devices) > 0 {
			return fault.Errorf(fault.ErrInUse, string(key), "volume %s is in use: attached as %s; detach it, and end what has that device open", key, devices[0].Path())
		}
	}
	return nil
}

// CheckInactive is CheckIdle for who gives the volume another file while datapath keeps domains from it: those may have it attached that do not
// use it yet.
func CheckInactive(s *sr.SR, key sr.Key) error {
	note, err := NoteOf(s, key)
	if err != nil || !note.Replacing || len(note.Active) > 0 {
		return CheckIdle(s, key)
	}
	me, err := hostinfo.ThisHost()
	if err != nil {
		return err
	}
	lease, err := Read(s, key, me)
	if err == nil && len(lease.Holders) > 0 {
		err = fault.Errorf(fault.ErrInUse, string(key), "volume %s is in use: active in %s", key, joinHolders(lease.Holders))
	}
	return err
}

func joinHolders(holders []Holder) string {
	var all []string
	for _, h := range holders {
		all = append(all, h.String())
	}
	return strings.Join(all, ", ")
}

// NonpersistentName is the staging name of the volume's nonpersistent disk on a host.
func NonpersistentName(key sr.Key, host hostinfo.Host) string {
	return string(key) + "." + host.UUID + sr.NonpersistentSuffix
}
