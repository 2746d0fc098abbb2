package hammer

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"reflinksr/internal/smapi"
)

// Event is one thing that was done, and what came of it: a call, or one block
// written or read through a volume's device.
type Event struct {
	Worker int    `json:"worker"`
	Call   int64  `json:"call"`   // when it began, ns since the seed's start
	Return int64  `json:"return"` // when it was answered, or its process was found dead
	Method string `json:"method"`

	Key    string `json:"key,omitempty"`
	From   string `json:"from,omitempty"`   // Volume.revert: the snapshot
	Domain int    `json:"domain,omitempty"` // datapath
	Text   string `json:"text,omitempty"`   // the new name, description or value
	Pair   int    `json:"pair,omitempty"`   // Volume.set, unset: which of the keys
	Size   int64  `json:"size,omitempty"`   // Volume.resize: bytes
	Tag    uint64 `json:"tag,omitempty"`    // write, read: the block's contents

	Answer Answer          `json:"answer"`
	About  string          `json:"about,omitempty"` // no such volume: which
	Why    string          `json:"why,omitempty"`   // the refusal in full
	New    string          `json:"new,omitempty"`   // the key of the volume it made
	Seen   *Seen           `json:"seen,omitempty"`  // what it told of a volume
	List   map[string]Seen `json:"list,omitempty"`  // what SR.ls told of all
}

// Answer is what became of a call.
type Answer string

// The answers that are told apart; all but the first two are refusals.
const (
	OK       Answer = "ok"
	Killed   Answer = "killed" // its process was, before it answered
	NoVolume Answer = "no such volume"
	InUse    Answer = "in use"
	Invalid  Answer = "invalid argument"
	BadSize  Answer = "invalid size"
	NoData   Answer = "data destroyed"
	NoCBT    Answer = "no changed block tracking"
)

// What is done to volumes beside calls of the interface.
const (
	writeBlock = "write"
	readBlock  = "read"
	stray      = "stray" // a volume of a killed call, found at the end
)

// Seen is what was seen of a volume at one moment.
type Seen struct {
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Keys        [2]string `json:"keys"` // values of the two keys that are used; "" for none
	Size        int64     `json:"size"`
	ReadWrite   bool      `json:"read_write"`
	Sharable    bool      `json:"sharable"`
	CBT         bool      `json:"cbt,omitempty"`
	Emptied     bool      `json:"emptied,omitempty"` // its data was destroyed
	Tag         *uint64   `json:"tag,omitempty"`     // nil if the data was not looked at
}

// pairs are the names of the keys that are set and unset.
var pairs = [2]string{"k0", "k1"}

// seen is what an answer tells of a volume. What is never otherwise is judged here.
func seen(v smapi.Volume) (Seen, error) {
	s := Seen{
		Name: v.Name, Description: v.Description, Size: v.VirtualSize,
		ReadWrite: v.ReadWrite, Sharable: v.Sharable, CBT: v.CBTEnabled, Emptied: v.VolumeType == smapi.CBTMetadata,
	}
	known := 0
	for i, k := range pairs {
		if value, ok := v.Keys[k]; ok {
			s.Keys[i] = value
			known++
		}
	}
	switch {
	case known != len(v.Keys):
		return s, fmt.Errorf("volume %s has keys that nobody set: %q", v.Key, v.Keys)
	case v.UUID != v.Key || len(v.URI) != 1 || !strings.Contains(v.URI[0], v.Key):
		return s, fmt.Errorf("volume %s is called %s at %q", v.Key, v.UUID, v.URI)
	}
	return s, nil
}

func (s Seen) String() string {
	text := fmt.Sprintf("%q %q %q %d MiB rw=%v sharable=%v cbt=%v emptied=%v", s.Name, s.Description, s.Keys, s.Size>>20, s.ReadWrite, s.Sharable, s.CBT, s.Emptied)
	if s.Tag != nil {
		text += fmt.Sprintf(" block=%x", *s.Tag)
	}
	return text
}

// String is the event as a line for people.
func (e *Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%10.3f … %10.3f ms  %2d  %s", ms(e.Call), ms(e.Return), e.Worker, e.Method)
	if e.Key != "" {
		fmt.Fprintf(&b, " %.8s", e.Key)
	}
	if e.From != "" {
		fmt.Fprintf(&b, " from %.8s", e.From)
	}
	switch e.Method {
	case "Volume.set_name", "Volume.set_description":
		fmt.Fprintf(&b, " %q", e.Text)
	case "Volume.set":
		fmt.Fprintf(&b, " %s=%q", pairs[e.Pair], e.Text)
	case "Volume.unset":
		fmt.Fprintf(&b, " %s", pairs[e.Pair])
	case "Volume.resize":
		fmt.Fprintf(&b, " %d MiB", e.Size>>20)
	case writeBlock, readBlock:
		fmt.Fprintf(&b, " %x domain %d", e.Tag, e.Domain)
	}
	if strings.HasPrefix(e.Method, "Datapath") {
		fmt.Fprintf(&b, " domain %d", e.Domain)
	}
	fmt.Fprintf(&b, ": %s", e.Answer)
	if e.About != "" && e.About != e.Key {
		fmt.Fprintf(&b, ": %.8s", e.About)
	}
	if e.New != "" {
		fmt.Fprintf(&b, ", made %.8s", e.New)
	}
	if e.Seen != nil {
		fmt.Fprintf(&b, ": %v", *e.Seen)
	}
	return b.String()
}

func ms(ns int64) float64 { return float64(ns) / float64(time.Millisecond) }

// makes says whether the event is a call that makes a volume.
func (e *Event) makes() bool { return e.Method == "Volume.create" || e.derives() }

// derives says whether the event is a call that makes a volume of another.
func (e *Event) derives() bool { return e.Method == "Volume.snapshot" || e.Method == "Volume.clone" }

// ends says whether the event is a call that only ends something, and succeeds if
// that has ended already.
func (e *Event) ends() bool {
	return slices.Contains([]string{"Volume.destroy", "Datapath.deactivate", "Datapath.detach", "Datapath.close"}, e.Method)
}

// reverts says whether the event is a revert that may have had its effect.
func (e *Event) reverts() bool { return e.Method == "Volume.revert" && took(e) }

// took says whether the call may have had its effect.
func took(e *Event) bool { return e.Answer == OK || e.Answer == Killed }

// refusals are the answers that a call can have at all beside OK and Killed. Which
// of them is right at what moment is the model's to say. None may be refused
// because a lock could not be had: the longest that any call here holds one is a
// small part of the 30 seconds that others wait for it, and a killed holder's goes
// with it.
var refusals = map[string][]Answer{
	"Volume.stat":                {NoVolume},
	"Volume.snapshot":            {NoVolume, NoData},
	"Volume.clone":               {NoVolume, NoData},
	"Volume.set_name":            {NoVolume},
	"Volume.set_description":     {NoVolume},
	"Volume.set":                 {NoVolume},
	"Volume.unset":               {NoVolume},
	"Volume.resize":              {NoVolume, Invalid, BadSize},
	"Volume.revert":              {NoVolume, Invalid, InUse, NoData},
	"Volume.enable_cbt":          {NoVolume, Invalid},
	"Volume.disable_cbt":         {NoVolume, Invalid},
	"Volume.data_destroy":        {NoVolume, Invalid, InUse, NoCBT},
	"Volume.destroy":             {InUse},
	"Datapath.open":              {NoVolume, NoData},
	"Datapath.attach":            {NoVolume, NoData},
	"Datapath.activate":          {NoVolume, Invalid, InUse, NoData},
	"Datapath.activate_readonly": {NoVolume, Invalid, InUse, NoData},
}

// expected says whether the answer is one that the call can have.
func (e *Event) expected() bool {
	return e.Answer == OK || e.Answer == Killed || slices.Contains(refusals[e.Method], e.Answer)
}
