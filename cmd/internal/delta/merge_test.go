package delta

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"reflinksr/internal/repository"
)

// chainOf writes streams that follow one another: block by block, as stream takes them, and each as long as its text.
func chainOf(t *testing.T, blocks ...string) (streams [][]byte) {
	t.Helper()
	h := Header{}
	for i, text := range blocks {
		h = Header{From: h.To, FromSize: h.ToSize, To: repository.Key(fmt.Sprintf("11111111-2222-4333-8444-%012d", i)), ToSize: int64(len(text)) * BlockSize}
		streams = append(streams, stream(t, h, text))
	}
	return streams
}

// merged is what a chain makes, as blocks.
func merged(t *testing.T, streams ...[]byte) (string, error) {
	t.Helper()
	var readers []*Reader
	for _, s := range streams {
		r, err := NewReader(bytes.NewReader(s))
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	var b strings.Builder
	err := Merge(readers, func(r Record) error {
		if r.Offset != int64(b.Len())*BlockSize || r.Length <= 0 || r.Data != nil && int64(len(r.Data)) != r.Length {
			t.Fatalf("%d bytes at %d, after %d blocks", r.Length, r.Offset, b.Len())
		}
		for i := int64(0); i < r.Length; i += BlockSize {
			if r.Data == nil {
				b.WriteByte('z')
			} else {
				b.WriteByte(r.Data[i])
			}
		}
		return nil
	})
	return b.String(), err
}

// The newest stream that says anything of a block counts, unless the disk was shorter since.
func TestMerge(t *testing.T) {
	for _, c := range []struct {
		streams []string
		want    string
	}{
		{[]string{""}, ""},
		{[]string{"azb"}, "azb"},
		{[]string{"aaaaaa", "..bb..", "...cz."}, "aabcza"},
		{[]string{"aaaa", "b.....", "....c."}, "baaacz"},
		{[]string{"aaaa", "b.", "...."}, "bazz"},
		{[]string{"aaaa", "...b", "..", "..c."}, "aacz"},
		{[]string{"aa", "..", ".."}, "aa"},
		{[]string{"aa", ""}, ""},
	} {
		if got, err := merged(t, chainOf(t, c.streams...)...); err != nil || got != c.want {
			t.Errorf("%q make %q, %v; want %q", c.streams, got, err, c.want)
		}
	}
}

// A merge is what applying one stream after the other makes.
func TestMergeIsApply(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var texts []string
		var disk []byte
		for i := range 1 + random.IntN(6) {
			text := make([]byte, random.IntN(40))
			for len(disk) < len(text) {
				disk = append(disk, 'z')
			}
			for at := range text {
				if text[at] = "....zabc"[random.IntN(8)]; i == 0 {
					text[at] = "zabc"[random.IntN(4)]
				}
				if text[at] != '.' {
					disk[at] = text[at]
				}
			}
			disk = disk[:len(text)]
			texts = append(texts, string(text))
		}
		if got, err := merged(t, chainOf(t, texts...)...); err != nil || got != string(disk) {
			t.Fatalf("%q make %q, %v; want %q", texts, got, err, disk)
		}
	}
}

// What is damaged is found wherever it is, also where a newer stream covers it, and named.
func TestMergeOfDamage(t *testing.T) {
	for i := range 3 {
		streams := chainOf(t, "abcd", "abcd", "abcd")
		streams[i][len(streams[i])-recordSize-1] ^= 1
		var of *OfStream
		if _, err := merged(t, streams...); !errors.As(err, &of) || of.Index != i || !errors.As(err, new(*Damage)) {
			t.Errorf("damage of stream %d: %v", i, err)
		}
	}
	streams := chainOf(t, "abcd", "a...", "..c.")
	for _, wrong := range [][][]byte{nil, streams[1:], {streams[0], streams[2]}, {streams[0], streams[0]}, {streams[0], streams[1], streams[1]}} {
		if _, err := merged(t, wrong...); !errors.As(err, new(*OfStream)) {
			t.Errorf("%d streams that are no chain: %v", len(wrong), err)
		}
	}
}

// A stream has its end record or is cut off.
func TestEnds(t *testing.T) {
	whole := chainOf(t, "abcd")[0]
	for size := range len(whole) + 1 {
		if err := Ends(bytes.NewReader(whole[:size]), int64(size)); (err == nil) != (size == len(whole)) {
			t.Fatalf("%d of %d bytes: %v", size, len(whole), err)
		}
	}
	if err := Ends(bytes.NewReader(whole), int64(len(whole)+1)); err == nil {
		t.Error("a stream is longer than it is")
	}
}
