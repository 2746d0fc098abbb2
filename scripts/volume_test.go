package scripts

import (
	"strings"
	"testing"

	"reflinksr/internal/smapi"
)

// What the verb volume asks for.
func TestNewVolume(t *testing.T) {
	for line, want := range map[string]smapi.VolumeCreate{
		"16MiB":                         {SR: "here", Name: "disk", Size: 16 << 20},
		"1000 name=odd sharable=true":   {SR: "here", Name: "odd", Size: 1000, Sharable: true},
		"4KiB sr=there description=a=b": {SR: "there", Name: "disk", Description: "a=b", Size: 4096},
		"0 name=":                       {SR: "here"},
	} {
		words := strings.Fields(line)
		request, err := newVolume("here", words[0], words[1:])
		if err != nil || request != want {
			t.Errorf("%s: %+v, %v; want %+v", line, request, err, want)
		}
	}
	for _, bad := range []string{"much", "4096 sharable=maybe", "4096 size=5", "4096 odd", "4096 name", "4096 sr="} {
		words := strings.Fields(bad)
		if request, err := newVolume("here", words[0], words[1:]); err == nil {
			t.Errorf("%s: %v", bad, request)
		}
	}
	if request, err := newVolume("", "4096", nil); err == nil {
		t.Errorf("without an SR: %v", request)
	}
}
