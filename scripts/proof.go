package scripts

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"reflinksr/internal/smapi"
)

// aboutContents are the calls whose answer says nothing of what they are for: that a
// disk's contents are as they should be is seen only by reading it.
var aboutContents = []smapi.Request{
	smapi.VolumeSnapshot{}, smapi.VolumeClone{}, smapi.VolumeCopy{}, smapi.VolumeRevert{}, smapi.VolumeResize{}, smapi.VolumeCompose{},
}

// AboutContents says whether a call works only if contents were looked at after it.
func AboutContents(method string) bool {
	return slices.ContainsFunc(aboutContents, func(r smapi.Request) bool { return strings.EqualFold(r.Call(), method) })
}

// claim is such a call that succeeded, until it is proved.
type claim struct {
	method string
	from   string // the volume whose contents it takes; "" if those are the volume's own
	of     string // the volume that it makes, or changes
	apart  bool   // something was written to one of the two since
}

// claims notes a call that succeeded.
func (s *script) claims(method string, request []byte, answer any) {
	if !AboutContents(method) {
		return
	}
	var args struct{ Key, Snapshot string }
	if json.Unmarshal(request, &args) != nil {
		return
	}
	c := claim{method: method, from: args.Snapshot, of: args.Key, apart: true}
	if volume, ok := answer.(map[string]any); ok {
		// A volume of its own: it shows in what is written later to either.
		key, _ := volume["key"].(string)
		c.from, c.of, c.apart = args.Key, key, false
	}
	s.claimed = append(s.claimed, c)
}

// wrote notes that a disk has other contents now.
func (s *script) wrote(key string) {
	for i := range s.claimed {
		if c := &s.claimed[i]; c.of == key || c.from == key {
			c.apart = true
		}
	}
}

// saw notes that a disk's contents are what they should be.
func (s *script) saw(keys ...string) {
	for _, c := range s.claimed {
		if c.apart && (slices.Contains(keys, c.of) || c.from != "" && slices.Contains(keys, c.from)) {
			if s.proved == nil {
				s.proved = map[string]bool{}
			}
			s.proved[c.method] = true
		}
	}
}

// proofs lists the calls whose work the scenario has seen.
func (s *script) proofs() []string { return slices.Sorted(maps.Keys(s.proved)) }
