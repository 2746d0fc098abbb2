package formats

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"reflinksr/internal/smapi"
	"reflinksr/scripts/tests"
)

// unread are members that nothing which is asked here depends on, and why.
var unread = map[string]string{
	"record colour":  "no release ever knew it: it is there to be kept",
	"marker created": "it is for people, who read sr.json",
	"lease boot":     "the lease is another host's, and of that one any boot is over",
}

// TestMembers has each member of the records go by another name, as if a later version did
// not know it any more: TestFormats would find that out. In parts, a third of them.
func TestMembers(t *testing.T) {
	tests.Root(t, "mounting filesystems")
	tests.Long(t)
	p, srctl := host(t)
	dir := filesystem(t, "btrfs")
	for _, of := range []struct{ kind, archive string }{{"record", "everything"}, {"lease", "everything"}, {"marker", "options"}} {
		names, err := filepath.Glob(archives + "/*/" + of.archive + ".txtar")
		if err != nil || len(names) == 0 {
			t.Fatalf("no archive %s, %v", of.archive, err)
		}
		for _, name := range names {
			a, err := readArchive(name)
			if err != nil {
				t.Fatal(err)
			}
			members := a.members(of.kind)
			if len(members) == 0 {
				t.Errorf("%s: no %s in it has a member", name, of.kind)
			}
			for i, member := range tests.Due(members, 3) {
				if unread[of.kind+" "+member] != "" {
					continue
				}
				at := place{plugin: p, srctl: srctl, kind: "btrfs", path: filepath.Join(dir, fmt.Sprint(of.kind, i))}
				at.look(a.without(of.kind, member))
				if len(at.wrong) == 0 {
					t.Errorf("%s: nobody would notice if the member %q of a %s were not understood any more", name, member, of.kind)
				}
				t.Logf("%s %s: %d wrong, as %.120q", of.kind, member, len(at.wrong), at.wrong)
				if at.handle != "" {
					if err := p.Call(smapi.SRDetach{SR: at.handle}, nil); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.RemoveAll(at.path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// is says whether the entry is of a kind: a record, a lease, or the marker.
func (e entry) is(kind string) bool {
	switch dir := filepath.Dir(e.path); kind {
	case "record":
		return e.kind != "dir" && strings.HasSuffix(e.path, ".inf")
	case "lease":
		return e.kind != "dir" && dir == ".reflinksr/leases"
	}
	return e.path == "sr.json"
}

// members are the names of all members of files of a kind, those of objects in them too.
func (a *archive) members(kind string) (all []string) {
	var collect func(v any)
	collect = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, inner := range v {
				collect(inner)
			}
		case map[string]any:
			for name, inner := range v {
				all = append(all, name)
				if name != "keys" { // those are the toolstack's
					collect(inner)
				}
			}
		}
	}
	for _, e := range a.entries {
		var v any
		if body, err := e.file(); e.is(kind) && err == nil && json.Unmarshal(body, &v) == nil {
			collect(v)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

var formatOne = regexp.MustCompile(`"format": *1\b`)

// without is the archive with another name for a member; another value, if it is the
// format: that does not matter as long as it is not a higher one.
func (a *archive) without(kind, member string) *archive {
	other := *a
	other.entries = slices.Clone(a.entries)
	for i, e := range other.entries {
		if !e.is(kind) {
			continue
		}
		body, err := e.file()
		if err != nil {
			continue // put will say so
		}
		if member == "format" {
			body = formatOne.ReplaceAll(body, []byte(`"format":9`))
		} else {
			body = bytes.ReplaceAll(body, []byte(`"`+member+`":`), []byte(`"former_`+member+`":`))
		}
		other.entries[i].kind, other.entries[i].body = "text", body
	}
	return &other
}
