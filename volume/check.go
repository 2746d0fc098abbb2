package volume

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/sr"
)

// Problem is something in an SR that is not as it should be.
type Problem struct {
	Name       string `json:"name"` // the file it is about
	Text       string `json:"text"`
	Repairable bool   `json:"repairable"` // recovery mends it
}

// Check looks over an SR and reports what is not as it should be. It changes
// nothing. What other calls are doing at the same time may show as unfinished.
func Check(s *sr.SR) ([]Problem, error) {
	var problems []Problem
	add := func(name string, repairable bool, format string, args ...any) {
		problems = append(problems, Problem{name, fmt.Sprintf(format, args...), repairable})
	}
	names, err := s.Root.Names()
	if err != nil {
		return nil, err
	}
	staged, err := s.Staging.Names()
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, name := range names {
		there[name] = true
	}
	for _, name := range staged {
		switch {
		case there[strings.TrimSuffix(name, ".inf")] && strings.HasSuffix(name, ".inf"):
			add(name, true, "a creation or destruction was interrupted")
		case strings.HasSuffix(name, sr.ThrowAwaySuffix):
			add(name, true, "a throw-away disk, of a guest that runs or of one that ended badly")
		default:
			add(name, true, "left in staging by an interrupted call, or of a call that goes on now")
		}
	}
	for _, name := range names {
		key, err := sr.ParseKey(strings.TrimSuffix(name, ".inf"))
		if err != nil {
			continue // foreign
		}
		if name == sr.Record(key) {
			checkVolume(s, key, add)
		} else if !there[sr.Record(key)] {
			add(name, false, "data without a record: no volume; left alone (give it a record %s to make it one)", sr.Record(key))
		}
	}
	return problems, nil
}

func checkVolume(s *sr.SR, key sr.Key, add func(string, bool, string, ...any)) {
	r, err := Load(s, key)
	if errors.Is(err, sr.ErrVolumeNotFound) {
		return
	}
	if err != nil {
		add(sr.Record(key), false, "%v", err)
		return
	}
	st, err := statData(s, key)
	switch {
	case errors.Is(err, sr.ErrVolumeNotFound):
		return
	case err != nil:
		_, staged := s.Staging.Stat(sr.Data(key))
		add(sr.Data(key), !errors.Is(staged, os.ErrNotExist), "%v", err)
		return
	case st.Size < int64(r.Size):
		add(sr.Data(key), false, "the data has %d bytes, its record says %d: it was cut short by something else", st.Size, int64(r.Size))
	case st.Size%SizeUnit != 0 && r.Format > 0:
		add(sr.Data(key), false, "the data has %d bytes, which is no multiple of %d", st.Size, SizeUnit)
	}
	f, err := OpenData(s, key, unix.O_RDONLY)
	if err != nil {
		add(sr.Data(key), false, "%v", err)
		return
	}
	f.Close()
	me, err := sr.ThisHost()
	if err != nil {
		return
	}
	if _, err := ReadLease(s, key, me); err != nil {
		add("leases/"+string(key), false, "%v", err)
	}
}

// BreakLease ends the use of a volume by other hosts, on paper: for when a host has
// died. Whoever is still alive must be stopped first. It returns who had the
// volume. What this host has active is ended by Datapath.deactivate.
func BreakLease(handle, key string) (holders []Holder, err error) {
	err = locked(handle, key, sr.Exclusive, func(s *sr.SR, k sr.Key) error {
		me, err := sr.ThisHost()
		if err != nil {
			return err
		}
		// Of this host as well only what the file says: a note is no claim to break.
		lease, err := readFile(s, k)
		if err != nil && !errors.Is(err, sr.ErrDamaged) {
			return err
		}
		lock, e := s.LockLeases()
		if e != nil {
			return e
		}
		defer lock.Unlock()
		note, e := noteOf(s, k)
		if e != nil {
			return e
		}
		holders = slices.DeleteFunc(lease.Holders, func(h Holder) bool { return h.On(me) && h.Boot == me.Boot })
		if err != nil || len(holders) > 0 {
			return writeFile(s, k, note.Active)
		}
		return nil
	})
	return holders, err
}
