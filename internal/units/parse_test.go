package units

import (
	"errors"
	"math"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "4096": 4096, "512B": 512, "10K": 10 << 10, "10k": 10 << 10, "10G": 10 << 30, "10GiB": 10 << 30, "10 GiB": 10 << 30, "1.5T": 3 << 39, "0.5K": 512, "7E": 7 << 60, "9223372036854775807": math.MaxInt64, "1024 KiB": 1 << 20} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "G", "x", "10GB", "10KB", "-1", "+1", "1e3", "0x10", "8E", "9223372036854775808", "0.3", "1.2.3", "10Gi", "10iB", "1_000", "Inf", "NaN", "10 G B", "1..5K", ".", "10\x1b[31mG", "99999999999E", "10 G\n"} {
		if got, err := Parse(text); !errors.Is(err, ErrSize) || got != 0 {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

// What is read as a size is written as one that is read, and never below zero.
func FuzzParse(f *testing.F) {
	f.Add("10GiB")
	f.Add("1.5T")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := Parse(text)
		if err != nil {
			return
		}
		if n < 0 {
			t.Errorf("%q: %d", text, n)
		}
		if n < 1<<50 {
			if again, err := Parse(Bytes(n)); err == nil && math.Abs(float64(again-n)) > float64(n)/10+1 {
				t.Errorf("%q: %d, %d", text, n, again)
			}
		}
	})
}
