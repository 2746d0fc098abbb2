package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"reflinksr/internal/repository"
)

// Two disks have one checksum if they hold the same, whatever of that are holes and in which pieces it comes; and another if they do not.
func TestChecksum(t *testing.T) {
	const size = 40*4096 + 512
	disk := make([]byte, size)
	for i := 3 * 4096; i < 9*4096; i++ {
		disk[i] = byte(i%251 + 1)
	}
	disk[20*4096+7], disk[size-1] = 1, 2
	r := rand.New(rand.NewPCG(1, 2))
	sum := func(disk []byte, holes bool) string {
		c := &contents{hash: sha256.New()}
		for at := 0; at < len(disk); {
			n := min(1+r.IntN(9000), len(disk)-at)
			piece := disk[at : at+n]
			if holes && !slices.ContainsFunc(piece, func(b byte) bool { return b != 0 }) {
				c.Zeros(int64(n))
			} else {
				c.Write(piece)
			}
			at += n
		}
		if err := c.End(); err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(c.hash.Sum(nil))
	}
	want := sum(disk, false)
	for range 200 {
		if got := sum(disk, r.IntN(2) == 0); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
	for what, other := range map[string][]byte{"longer": append(slices.Clone(disk), 0), "shorter": disk[:size-512], "elsewhere": append(make([]byte, 4096), disk[:size-4096]...), "one bit": func() []byte {
		other := slices.Clone(disk)
		other[5*4096] ^= 1
		return other
	}()} {
		if sum(other, true) == want {
			t.Errorf("%s: the same", what)
		}
	}
}

// What a disk tells of its migration is read as it was written, and else refused.
func TestUnfinished(t *testing.T) {
	const k, a, b repository.Key = "11111111-2222-4333-8444-555555555555", "aaaaaaaa-2222-4333-8444-555555555555", "bbbbbbbb-2222-4333-8444-555555555555"
	for _, want := range []unfinished{{}, {Key: k, To: "x:y"}, {Key: k, Holds: a}, {Key: k, Writing: b}, {Key: k, Holds: a, Writing: b}} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if want.Key == "" {
			text = nil
		}
		if got, err := parseUnfinished(string(text)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"x", "{}", `{"key":"x"}`, `{"key":"` + string(k) + `","holds":"../x"}`} {
		if got, err := parseUnfinished(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

// A destination is an SR of this host or of another.
func TestParsePeer(t *testing.T) {
	for text, want := range map[string][2]string{"tank": {"", "tank"}, "/srv/a:b": {"", "/srv/a:b"}, "./a:b": {"", "./a:b"}, "other:tank": {"other", "tank"}, "root@other:/srv/tank": {"root@other", "/srv/tank"}} {
		if p, err := parsePeer(text, "ssh"); err != nil || p.host != want[0] || p.sr != want[1] {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
	}
	for _, text := range []string{"", "other:", "-oProxyCommand=x:tank"} {
		if p, err := parsePeer(text, "ssh"); err == nil {
			t.Errorf("%q: %+v", text, p)
		}
	}
	if _, err := parsePeer("other:tank", " "); err == nil {
		t.Error("no program")
	}
}

// A shell on the other host gets every word as it is.
func TestPeerQuotes(t *testing.T) {
	p, err := parsePeer("other:tank", "ssh -p 7")
	if err != nil {
		t.Fatal(err)
	}
	got := p.command(t.Context(), "rename", "it's; $(x)").Args
	if want := []string{"ssh", "-p", "7", "--", "other", `srctl 'rename' 'it'\''s; $(x)'`}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := strings.Join((peer{sr: "tank"}).command(t.Context(), "ls", "tank").Args, " "); got != "srctl ls tank" {
		t.Error(got)
	}
}
